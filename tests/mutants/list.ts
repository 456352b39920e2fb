// All mutants. `make mutants` applies them one at a time.

import { ofCredits } from "./credits.ts";
import { ofDeletion } from "./deletion.ts";
import { ofExports } from "./exports.ts";
import { ofMarks } from "./marking.ts";
import type { Mutant } from "./mutant.ts";
import { ofOwners } from "./owners.ts";
import { ofSweeps } from "./sweep.ts";
import { ofPromises } from "./promises.ts";
import { ofReplicate } from "./replicate.ts";
import { ofRequests } from "./requests.ts";
import { ofSupabase } from "./supabase.ts";

export const mutants: Mutant[] = [
  ...ofCredits, ...ofDeletion, ...ofExports, ...ofMarks, ...ofOwners, ...ofSweeps, ...ofPromises, ...ofReplicate, ...ofRequests,
  ...ofSupabase,
];
