// Whether the database is there. While it is not, hosted answers 503, and so does whoever waits for it.

export class Presence {
  #leave!: () => void;
  isAway = false;
  private readonly left = new Promise<void>((resolve) => (this.#leave = resolve));

  leave(): void {
    this.isAway = true;
    this.#leave();
  }

  /** What `ask` answers, unless the database goes meanwhile: what it says then is of no use. */
  async during(ask: () => Promise<Response>): Promise<Response> {
    if (this.isAway) return unavailable();
    return Promise.race([ask(), this.left.then(unavailable)]);
  }
}

function unavailable(): Response {
  const message = "Could not connect with the database.";
  return Response.json({ code: "PGRST001", message, details: null, hint: null }, { status: 503 });
}
