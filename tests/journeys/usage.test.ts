// Usage events, and the reports over them (C9, C10, U3, U6, G7).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { type SupabaseClient, createClient } from "@supabase/supabase-js";
import sharp from "sharp";
import ws from "ws";
import { Person } from "./person.ts";
import { small } from "./photos.ts";
import { database } from "./stack.ts";

after(() => database.end());

const service = createClient(process.env.SUPABASE_URL!, process.env.SUPABASE_SECRET_KEY!, {
  auth: { persistSession: false },
  realtime: { transport: ws as never },
  db: { schema: "backend" },
}) as unknown as SupabaseClient;

const device = { browser: "firefox", browser_version: 142, viewport_width: 1280, viewport_height: 720, pixel_ratio: 2, image_formats: ["avif", "webp"] };

async function record(person: Person, event: Record<string, unknown>) {
  return (await person.client.from("usage_events").insert(event)).error;
}

test("an event records a feature and the capabilities of the device, and its user can read it (C9, C10)", async () => {
  const alice = await Person.signUp("alice");
  await alice.allow("analytics");
  assert.equal(await record(alice, { feature: "style_picked", ...device }), null);
  const { data } = await alice.client.from("usage_events").select("feature, browser, browser_version, viewport_width, viewport_height, pixel_ratio, image_formats");
  assert.deepEqual(data, [{ feature: "style_picked", ...device }]);
});

test("usage events have only the columns of the policy, and none can hold an IP address or a user agent (C10)", async () => {
  const columns = await database`
    select column_name as name, data_type as type from information_schema.columns
    where table_schema = 'public' and table_name = 'usage_events' order by 1`;
  assert.deepEqual(columns.map(({ name }) => name), [
    "at", "browser", "browser_version", "feature", "id", "image_formats", "person_id", "pixel_ratio", "viewport_height", "viewport_width",
  ]);
  const alice = await Person.signUp("alice");
  await alice.allow("analytics");
  for (const wrong of [
    { feature: "Mozilla/5.0 (X11; Linux)" },
    { feature: "opened", browser: "Mozilla/5.0" },
    { feature: "opened", browser: "firefox", browser_version: 0 },
    { feature: "opened", viewport_width: 99999 },
    { feature: "opened", pixel_ratio: 1000 },
    { feature: "opened", image_formats: ["192.168.0.1"] },
    { feature: "opened", ip: "192.168.0.1" },
    { feature: "opened", person_id: (await Person.signUp("bob")).id },
  ]) {
    assert.ok(await record(alice, wrong), JSON.stringify(wrong));
  }
});

test("the helper in docs/privacy.md records exactly these columns", async () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/privacy.md"), "utf8");
  const block = [...page.matchAll(/^```js\n([^]*?)^```/gm)].map(([, code]) => code!).find((code) => code.includes("usage_events"))!;
  /** The browser can show all formats that `sharp` can read, except WebP. */
  class Image {
    src = "";
    async decode(): Promise<void> {
      const [, format, picture] = /^data:image\/(\w+);base64,(.*)$/.exec(this.src)!;
      const { mediaType, width } = await sharp(Buffer.from(picture!, "base64")).metadata();
      assert.deepEqual([mediaType, width], [`image/${format}`, 1]);
      if (format === "webp") throw new Error("cannot be shown");
    }
  }
  const browser = {
    navigator: { userAgent: "Mozilla/5.0 (Macintosh) AppleWebKit/605 (KHTML, like Gecko) Version/18.2 Safari/605" },
    ...{ innerWidth: 1200, innerHeight: 800, Image },
    // The user has zoomed out to 25 %.
    devicePixelRatio: 0.25,
  };
  const alice = await Person.signUp("alice");
  const names = Object.keys(browser);
  const recordUsage = new Function(...names, `${block.replaceAll("export ", "")}; return recordUsage;`)(...Object.values(browser));
  assert.equal((await recordUsage(alice.client, "gallery_opened")).error.hint, "analytics_not_allowed");
  await alice.allow("analytics");
  const { error } = await recordUsage(alice.client, "gallery_opened");
  assert.equal(error, null);
  const { data } = await alice.client.from("usage_events").select("feature, browser, browser_version, viewport_width, pixel_ratio, image_formats").single();
  const recorded = { feature: "gallery_opened", browser: "safari", browser_version: 18, viewport_width: 1200 };
  assert.deepEqual(data, { ...recorded, pixel_ratio: 0.3, image_formats: ["jpeg", "png", "avif"] });
});

test("no role can record usage before a user allows analytics, or after the user objects (G7)", async () => {
  const alice = await Person.signUp("alice");
  const refused = async () => {
    assert.equal((await record(alice, { feature: "opened" }))!.hint, "analytics_not_allowed");
    const insert = database`insert into public.usage_events (person_id, feature) values (${alice.id}, 'opened')`;
    await assert.rejects(insert, /not allowed analytics/);
  };
  await refused();
  await alice.allow("analytics");
  assert.equal(await record(alice, { feature: "opened" }), null);
  await alice.client.from("privacy_choices").insert({ purpose: "analytics", allowed: false });
  await refused();
});

test("a user can record at most 1,000 events a day", async () => {
  const alice = await Person.signUp("alice");
  await alice.allow("analytics");
  await database`insert into public.usage_events (person_id, feature) select ${alice.id}, 'opened' from generate_series(1, 1000)`;
  assert.match((await record(alice, { feature: "opened" }))!.message, /1000 events/);
});

test("reports show groups of five or more, and exclude users and their past data once they object (U3, U6, G7)", async () => {
  const people = await Promise.all(Array.from({ length: 5 }, (_, place) => Person.signUp(`p${place}`)));
  const feature = `only_${"abcdefgh".slice(0, 4)}_${[...people[0]!.id.replaceAll(/[^a-f]/g, "")].slice(0, 8).join("")}`;
  const find = async (report: string, column: string, value: string) => {
    const { data, error } = await service.from(report).select().eq(column, value);
    assert.equal(error, null);
    return data!;
  };
  await Promise.all(people.map((person) => person.allow("analytics")));
  await Promise.all(people.slice(0, 4).map((person) => record(person, { feature, browser: "samsung" })));
  assert.deepEqual(await find("usage_report", "feature", feature), []);
  assert.deepEqual(await find("device_report", "browser", "samsung"), []);
  await record(people[4]!, { feature, browser: "samsung" });
  await record(people[4]!, { feature, browser: "samsung" });
  assert.deepEqual(await find("usage_report", "feature", feature), [{ feature, events: 6, people: 5 }]);
  assert.equal((await find("device_report", "browser", "samsung"))[0]!.people, 5);

  // Their own style, because other tests also make artworks.
  const style = `only-${people[0]!.id.slice(0, 8)}`;
  await database`insert into private.style_versions (style, version, prompt) values (${style}, 1, 'a style of their own')`;
  await database`insert into public.styles (id, name, description, model, position)
    select ${style}, 'Own', 'Own', 'kontext-pro', max(position) + 1 from public.styles`;
  await Promise.all(people.map(async (person) => person.ended((await person.generate(await small, { style })).id)));
  const [processing] = await find("processing_report", "style", style);
  assert.deepEqual([processing!.generations, processing!.people, processing!.failed_share], [5, 5, 0]);
  assert.ok(processing!.median_seconds > 0 && processing!.p95_seconds >= processing!.median_seconds);

  await people[0]!.client.from("privacy_choices").insert({ purpose: "improvement", allowed: false });
  assert.deepEqual(await find("usage_report", "feature", feature), []);
  assert.deepEqual(await find("device_report", "browser", "samsung"), []);
  assert.deepEqual(await find("processing_report", "style", style), []);
  await database`update public.styles set available = false where id = ${style}`;
});

test("users cannot read the reports", async () => {
  const alice = await Person.signUp("alice");
  for (const report of ["usage_report", "device_report", "processing_report"]) {
    assert.ok((await alice.client.schema("backend").from(report).select()).error);
  }
});
