// Uploads that begin now and finish when the test wants.

import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import type { Person } from "../journeys/person.ts";
import { sign } from "../journeys/tokens.ts";
import { publishable } from "./owner.ts";

export interface Finished {
  status: number;
  /** The status in the body: hosted Storage answers HTTP 400 and puts the real status there. */
  statusCode?: string;
}

export interface Upload {
  /** Sends the rest of the body and returns Storage's response. */
  finish(): Promise<Finished>;
}

export const nameOf = (person: Person, extension = "jpg") => `${person.id}/${randomUUID()}.${extension}`;

/** Sends half of the body of a request. Resolves after this half is sent. */
async function heldRequest(method: string, path: string, headers: Record<string, string>, body: Buffer): Promise<Upload> {
  const { hostname, port, host } = new URL(process.env.SUPABASE_URL!);
  const socket = connect(Number(port), hostname);
  const received: Buffer[] = [];
  socket.on("data", (piece) => received.push(piece));
  const closed = new Promise<void>((done) => {
    socket.once("close", () => done());
    socket.once("error", () => done());
  });
  const lines = Object.entries({ host, connection: "close", "content-length": String(body.length), ...headers });
  const head = `${method} ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  const half = Math.floor(body.length / 2);
  await new Promise((sent) => socket.write(Buffer.concat([Buffer.from(head), body.subarray(0, half)]), sent));
  return {
    async finish() {
      socket.write(body.subarray(half));
      await closed;
      const [head = "", text = ""] = Buffer.concat(received).toString().split("\r\n\r\n", 2) as [string?, string?];
      const statusCode = /"statusCode":\s*"?(\d+)/.exec(text)?.[1];
      return { status: Number(head.split(" ")[1] ?? 0), ...(statusCode ? { statusCode } : {}) };
    },
  };
}

const bearer = (token: string) => ({ apikey: publishable, authorization: `Bearer ${token}` });

/** A plain upload that has sent half of its body. */
export function slowPost({ token }: Person, name: string, bytes: Buffer): Promise<Upload> {
  return heldRequest("POST", `/storage/v1/object/inputs/${name}`, { ...bearer(token), "content-type": "image/jpeg" }, bytes);
}

/** A resumable upload that is created, but has sent no bytes yet. */
export async function tusUpload({ token }: Person, name: string, bytes: Buffer): Promise<Upload> {
  const pair = (key: string, value: string) => `${key} ${Buffer.from(value).toString("base64")}`;
  const headers = { ...bearer(token), "tus-resumable": "1.0.0" };
  const created = await fetch(`${process.env.SUPABASE_URL}/storage/v1/upload/resumable`, {
    method: "POST",
    headers: {
      ...headers,
      "upload-length": String(bytes.length),
      "upload-metadata": [pair("bucketName", "inputs"), pair("objectName", name), pair("contentType", "image/jpeg")].join(","),
    },
  });
  if (created.status !== 201) throw new Error(`${created.status} ${await created.text()}`);
  const { pathname } = new URL(created.headers.get("location")!);
  return {
    async finish() {
      const patched = await fetch(`${process.env.SUPABASE_URL}${pathname}`, {
        method: "PATCH",
        headers: { ...headers, "content-type": "application/offset+octet-stream", "upload-offset": "0" },
        body: bytes as unknown as BodyInit,
      });
      const statusCode = /"statusCode":\s*"?(\d+)/.exec(await patched.text())?.[1];
      return { status: patched.status, ...(statusCode ? { statusCode } : {}) };
    },
  };
}

/** The token of a signed upload URL, as Storage could have signed it before the policy that refuses such URLs. */
const uploadToken = ({ id }: Person, name: string) => sign({ url: `inputs/${name}`, owner: id, upsert: true });

/** A PUT to a signed upload URL that has sent half of its body. */
export function signedPut(person: Person, name: string, bytes: Buffer): Promise<Upload> {
  const path = `/storage/v1/object/upload/sign/inputs/${name}?token=${uploadToken(person, name)}`;
  return heldRequest("PUT", path, { apikey: publishable, "content-type": "image/jpeg" }, bytes);
}
