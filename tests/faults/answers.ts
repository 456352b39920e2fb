// What Supabase's services write when they do not do what they are asked, for the proxy to answer.

export interface Answer {
  status: number;
  body: string;
  headers?: Record<string, string>;
}

/** As PostgREST writes an error. */
export const error = (status: number, code: string, message: string): Answer => ({
  status,
  body: JSON.stringify({ code, details: null, hint: null, message }),
});

/** As Storage writes one: HTTP 400, and the true status inside. */
export const failure = (statusCode: string | number, code: string, message: string): Answer => ({
  status: 400,
  body: JSON.stringify({ statusCode, error: code, code, message }),
});

/** As the gateway in front of all services writes one. */
export const gateway = (status: number, message: string): Answer => ({ status, body: JSON.stringify({ message, hint: "" }) });

export const html = (status: number, title: string): Answer => ({
  status,
  body: `<!DOCTYPE html><html><head><title>${title}</title></head></html>`,
  headers: { "content-type": "text/html" },
});
