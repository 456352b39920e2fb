// Text that PostgreSQL cannot hold: NUL, and half of a surrogate pair, which is no character of UTF-8.

export function isStorable(value: unknown): boolean {
  if (typeof value === "string") return !value.includes("\0") && value.isWellFormed();
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([key, inner]) => isStorable(key) && isStorable(inner));
}

const suspicious = /\\u(0000|d[89a-f])/i;

/** Of a body that is JSON; any other is for its reader to refuse. */
export function isStorableJson(body: string): boolean {
  if (!suspicious.test(body)) return true;
  try {
    return isStorable(JSON.parse(body));
  } catch (error) {
    // Nested too deeply to be looked through.
    return !(error instanceof RangeError);
  }
}

/** Looks at what is written as bytes alone: a `%` of its own is a character like any other. */
export function isStorableAddress({ pathname, search }: URL): boolean {
  const bytes = `${pathname}${search}`.match(/(%[0-9a-f]{2})+/gi) ?? [];
  try {
    return bytes.every((part) => isStorable(decodeURIComponent(part)));
  } catch {
    return false;
  }
}
