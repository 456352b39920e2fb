// Tracks whether the database is available. While it is not, hosted Supabase answers 503, and so does this
// stack, also for open requests.

export class Presence {
  #leave!: () => void;
  isAway = false;
  private readonly left = new Promise<void>((resolve) => (this.#leave = resolve));

  leave(): void {
    this.isAway = true;
    this.#leave();
  }

  /**
   * Returns the response of `ask`. If the database goes away meanwhile, returns 503 instead, because that
   * response would be useless.
   */
  async during(ask: () => Promise<Response>): Promise<Response> {
    if (this.isAway) return unavailable();
    return Promise.race([ask(), this.left.then(unavailable)]);
  }
}

function unavailable(): Response {
  const message = "Could not connect with the database.";
  return Response.json({ code: "PGRST001", message, details: null, hint: null }, { status: 503 });
}
