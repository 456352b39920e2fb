// Storage's endpoints, each with its operation name in policies (`storage.operation()`).

import {
  createBucket,
  deleteBucket,
  emptyBucket,
  getBucket,
  listBuckets,
  updateBucket,
} from "./buckets.ts";
import { isStorable } from "../text.ts";
import { identify, nobody } from "./caller.ts";
import { copy, move } from "./copy.ts";
import { download, downloadPublic, info } from "./download.ts";
import { asFailure, invalidKey, invalidRequest } from "./failure.ts";
import { list } from "./list.ts";
import { listV2 } from "./list-v2.ts";
import { removeMany, removeOne } from "./remove.ts";
import { append, create, inspect, terminate } from "./resumable.ts";
import { downloadSigned, sign, signMany, signUpload, uploadSigned } from "./sign.ts";
import type { Asked, Storage } from "./storage.ts";
import { upload } from "./upload.ts";

/** Whether credentials must be valid, may be invalid, or are ignored. */
type Credentials = "required" | "tolerated" | "unused";
type Route = [
  methods: string,
  path: RegExp,
  operation: string,
  Credentials,
  (asked: Asked) => Promise<Response>,
];

const routes: Route[] = [
  ["POST", /^\/bucket\/?$/, "bucket.create", "required", createBucket],
  ["GET", /^\/bucket\/?$/, "bucket.list", "required", listBuckets],
  ["GET", /^\/bucket\/([^/]+)$/, "bucket.get", "required", getBucket],
  ["PUT", /^\/bucket\/([^/]+)$/, "bucket.update", "required", updateBucket],
  ["DELETE", /^\/bucket\/([^/]+)$/, "bucket.delete", "required", deleteBucket],
  ["POST", /^\/bucket\/([^/]+)\/empty$/, "bucket.empty", "required", emptyBucket],
  ["POST", /^\/object\/copy$/, "object.copy", "required", copy],
  ["POST", /^\/object\/move$/, "object.move", "required", move],
  ["POST", /^\/object\/list\/([^/]+)$/, "object.list", "required", list],
  ["POST", /^\/object\/list-v2\/([^/]+)$/, "object.list_v2", "required", listV2],
  [
    "POST",
    /^\/object\/upload\/sign\/([^/]+)\/(.+)$/,
    "object.sign_upload_url",
    "required",
    signUpload,
  ],
  [
    "PUT",
    /^\/object\/upload\/sign\/([^/]+)\/(.+)$/,
    "object.upload_signed",
    "unused",
    uploadSigned,
  ],
  ["POST", /^\/object\/sign\/([^/]+)$/, "object.sign_many", "required", signMany],
  ["POST", /^\/object\/sign\/([^/]+)\/(.+)$/, "object.sign", "required", sign],
  ["GET HEAD", /^\/object\/sign\/([^/]+)\/(.+)$/, "object.get_signed", "unused", downloadSigned],
  ["GET HEAD", /^\/object\/public\/([^/]+)\/(.+)$/, "object.get_public", "unused", downloadPublic],
  [
    "GET",
    /^\/object\/info\/(?:authenticated\/)?([^/]+)\/(.+)$/,
    "object.get_authenticated_info",
    "tolerated",
    info,
  ],
  [
    "GET HEAD",
    /^\/object\/(?:authenticated\/)?([^/]+)\/(.+)$/,
    "object.get_authenticated",
    "tolerated",
    download,
  ],
  ["POST", /^\/object\/([^/]+)\/(.+)$/, "object.upload", "required", upload],
  ["PUT", /^\/object\/([^/]+)\/(.+)$/, "object.upload_update", "required", upload],
  ["DELETE", /^\/object\/([^/]+)\/(.+)$/, "object.delete", "required", removeOne],
  ["DELETE", /^\/object\/([^/]+)\/?$/, "object.delete_many", "required", removeMany],
  ["POST", /^\/upload\/resumable\/?$/, "tus.upload.create", "required", create],
  ["HEAD", /^\/upload\/resumable\/([^/]+)$/, "tus.upload.get", "required", inspect],
  ["PATCH", /^\/upload\/resumable\/([^/]+)$/, "tus.upload.part", "required", append],
  ["DELETE", /^\/upload\/resumable\/([^/]+)$/, "tus.upload.delete", "required", terminate],
];

/** Answers requests below /storage/v1. Errors that are not the caller's fault go to `log`. */
export async function answerStorage(
  request: Request,
  storage: Storage,
  log: (error: Error) => void,
): Promise<Response> {
  const { pathname, searchParams: query } = new URL(request.url);
  const path = pathname.slice("/storage/v1".length);
  if (path === "/status") return new Response(null, { status: 200 });
  for (const [methods, pattern, operation, credentials, answer] of routes) {
    const match = methods.split(" ").includes(request.method) ? pattern.exec(path) : null;
    if (!match) continue;
    try {
      const [bucket, name] = [decode(match[1]), decode(match[2])];
      const caller = callerOf(request, storage, credentials);
      return await answer({ storage, request, query, caller, operation, bucket, name });
    } catch (error) {
      const failure = asFailure(error);
      if (failure.code >= 500) log(error as Error);
      return failure.response();
    }
  }
  const message = `Route ${request.method}:${path} not found`;
  return Response.json({ message, error: "Not Found", statusCode: "404" }, { status: 404 });
}

function callerOf(request: Request, storage: Storage, credentials: Credentials) {
  if (credentials === "unused") return nobody;
  try {
    return identify(request, storage.keys);
  } catch (error) {
    if (credentials === "tolerated") return nobody;
    throw error;
  }
}

function decode(part: string | undefined): string {
  const decoded = (() => {
    try {
      return decodeURIComponent(part ?? "");
    } catch {
      throw invalidRequest("the address is not well-formed");
    }
  })();
  if (!isStorable(decoded)) throw invalidKey(decoded);
  return decoded;
}
