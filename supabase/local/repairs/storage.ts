// Storage as hosted answers it. `@supabase/lite` differs in these places and no others that the
// Supabase client or the functions can see; tests/stack shows each.

import { multipart } from "./multipart.ts";
import { list } from "./list.ts";

export type Handler = (request: Request) => Promise<Response>;

const root = "/storage/v1";

/** Answers a request to Storage, asking `lite` in the way that it understands. */
export async function answerStorage(request: Request, lite: Handler): Promise<Response> {
  const path = new URL(request.url).pathname.slice(root.length);
  const post = request.method === "POST";
  if (post && /^\/object\/sign\/[^/]+\/.+/.test(path)) return sign(request, lite);
  if (post && /^\/object\/sign\/[^/]+$/.test(path)) return signMany(request, lite);
  if (post && /^\/object\/upload\/sign\//.test(path)) return signUpload(request, lite);
  if (post && /^\/object\/list\/[^/]+$/.test(path)) return list(request, lite);
  if (isUpload(request.method, path)) return lite(await multipart(request));
  return lite(request);
}

function isUpload(method: string, path: string): boolean {
  return ["POST", "PUT"].includes(method) && /^\/object\/(?!(copy|move|list|sign|info)(\/|$))/.test(path);
}

/** Hosted: `signedURL`, relative to /storage/v1. */
async function sign(request: Request, lite: Handler): Promise<Response> {
  const response = await lite(request);
  if (!response.ok) return response;
  const { signedUrl } = (await response.json()) as { signedUrl: string };
  return Response.json({ signedURL: signedUrl.slice(root.length) });
}

/** Hosted: one entry a path, whose error says that it is not there. */
async function signMany(request: Request, lite: Handler): Promise<Response> {
  const { paths, expiresIn } = (await request.clone().json()) as { paths?: string[]; expiresIn?: number };
  if (!Array.isArray(paths)) return lite(request);
  const entries = await Promise.all(
    paths.map(async (path) => {
      const address = `${request.url}/${path.split("/").map(encodeURIComponent).join("/")}`;
      const single = new Request(address, {
        method: "POST",
        headers: request.headers,
        body: JSON.stringify({ expiresIn }),
      });
      const response = await sign(single, lite);
      if (response.ok) return { error: null, path, ...((await response.json()) as object) };
      return {
        error: "Either the object does not exist or you do not have access to it",
        path,
        signedURL: null,
      };
    }),
  );
  return Response.json(entries);
}

/** Hosted: `url`, relative to /storage/v1, and the token. */
async function signUpload(request: Request, lite: Handler): Promise<Response> {
  const response = await lite(request);
  if (!response.ok) return response;
  const { signedUrl, token } = (await response.json()) as { signedUrl: string; token: string };
  return Response.json({ url: signedUrl.slice(root.length), token });
}
