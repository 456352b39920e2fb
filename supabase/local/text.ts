// Finds text that PostgreSQL cannot store: NUL, and unpaired surrogates, which are not valid in UTF-8.

export function isStorable(value: unknown): boolean {
  if (typeof value === "string") return !value.includes("\0") && value.isWellFormed();
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([key, inner]) => isStorable(key) && isStorable(inner));
}

const suspicious = /\\u(0000|d[89a-f])/i;

/** Checks a JSON body. A body that is not JSON passes, because its reader refuses it. */
export function isStorableJson(body: string): boolean {
  if (!suspicious.test(body)) return true;
  try {
    return isStorable(JSON.parse(body));
  } catch (error) {
    // The body is nested too deeply to be checked, so it is refused.
    return !(error instanceof RangeError);
  }
}

/** Checks the percent-encoded bytes. A single `%` counts as a normal character. */
export function isStorableAddress({ pathname, search }: URL): boolean {
  const bytes = `${pathname}${search}`.match(/(%[0-9a-f]{2})+/gi) ?? [];
  try {
    return bytes.every((part) => isStorable(decodeURIComponent(part)));
  } catch {
    return false;
  }
}
