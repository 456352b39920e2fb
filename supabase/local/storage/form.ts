// Parses forms (RFC 7578). The Supabase client sends the file in a field with an empty name, and Bun's
// `formData()` drops such a field.

export interface File {
  type: string;
  bytes: Buffer;
}

export interface Form {
  fields: Map<string, string>;
  file?: File;
}

const lineEnd = "\r\n";
const headEnd = lineEnd + lineEnd;

/**
 * Returns the fields, and the first file whatever its field is called. Undefined if the body is not a form.
 */
export function parseForm(body: Buffer, contentType: string): Form | undefined {
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType);
  if (!boundary) return undefined;
  const delimiter = `${lineEnd}--${boundary[1] ?? boundary[2]}`;
  const form: Form = { fields: new Map() };
  // There is no line break before the first delimiter.
  let start = delimiter.length - lineEnd.length;
  for (;;) {
    const end = body.indexOf(delimiter, start);
    if (end < 0) return form.file || form.fields.size > 0 ? form : undefined;
    readPart(body.subarray(start, end), form);
    start = end + delimiter.length;
  }
}

function readPart(part: Buffer, form: Form): void {
  const split = part.indexOf(headEnd);
  if (split < 0) return;
  const head = part.subarray(0, split).toString("utf8");
  const bytes = part.subarray(split + headEnd.length);
  const disposition = /^content-disposition:(.*)$/im.exec(head)?.[1] ?? "";
  const type = /^content-type:\s*(.*?)\s*$/im.exec(head)?.[1] ?? "";
  if (/;\s*filename\*?=/i.test(disposition)) {
    form.file ??= { type, bytes };
  } else {
    form.fields.set(/;\s*name="([^"]*)"/i.exec(disposition)?.[1] ?? "", bytes.toString("utf8"));
  }
}
