// The names that hosted Supabase accepts.

import { Failure, invalidKey } from "./failure.ts";

const objectName = /^[\w/!\-.*'() &$@=;:+,?]+$/;
const bucketName = /^[\w!\-.*'() &$@=;:+,?]{1,63}$/;
/** The file system's limit in bytes: each part of a name is a folder. */
const segmentBytes = 255;

export function checkObjectName(name: string): void {
  const segments = name.split("/");
  // Hosted Supabase accepts `..`, where it is only a name. On a disk it would lead to another folder.
  const leads = segments.some(
    (segment) => segment === "." || segment === ".." || segment.length > segmentBytes,
  );
  if (!objectName.test(name) || leads) throw invalidKey(name);
}

export function checkBucketName(name: string): void {
  if (!bucketName.test(name) || name === "." || name === "..") {
    throw new Failure(400, "Invalid Input", "Bucket name invalid");
  }
}
