// Which names hosted takes.

import { Failure, invalidKey } from "./failure.ts";

const objectName = /^[\w/!\-.*'() &$@=;:+,?]+$/;
const bucketName = /^[\w!\-.*'() &$@=;:+,?]{1,63}$/;
/** Of the file system, which keeps each name as a folder. */
const segmentBytes = 255;

export function checkObjectName(name: string): void {
  const segments = name.split("/");
  // Hosted takes `..`, where it is no more than a name; on a disk it leads elsewhere.
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
