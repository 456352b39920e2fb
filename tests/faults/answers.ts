// Error responses of Supabase's services, which the proxy returns in their place.

export interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

/** An error as PostgREST writes it. */
export const error = (status: number, code: string, message: string): Answer => ({
  status,
  body: JSON.stringify({ code, details: null, hint: null, message }),
});

/** An error as Storage writes it: HTTP 400, with the real status in the body. */
export const failure = (statusCode: string | number, code: string, message: string): Answer => ({
  status: 400,
  body: JSON.stringify({ statusCode, error: code, code, message }),
});

/** An error as the gateway in front of all services writes it. */
export const gateway = (status: number, message: string): Answer => ({ status, body: JSON.stringify({ message, hint: "" }) });

export const html = (status: number, title: string): Answer => ({
  status,
  body: `<!DOCTYPE html><html><head><title>${title}</title></head></html>`,
  headers: { "content-type": "text/html" },
});
