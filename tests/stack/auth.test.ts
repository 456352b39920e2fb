import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import { admin, ask, client, publishable, secret, service, signUp, url } from "./project.ts";

function claimsOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString());
}

describe("Auth", () => {
  it("gives users a session when they sign up, and again when they sign in with their password", async () => {
    const own = client(publishable);
    const [email, password] = [`ada.${randomUUID()}@example.com`, randomUUID()];
    const { data } = await own.auth.signUp({ email, password, options: { data: { name: "Ada" } } });
    assert.ok(data.session!.access_token && data.session!.refresh_token);
    assert.equal(data.user!.user_metadata.name, "Ada");
    await own.auth.signOut();
    const back = await own.auth.signInWithPassword({ email, password });
    assert.equal(back.data.user!.id, data.user!.id);
    const refreshed = await own.auth.refreshSession();
    assert.notEqual(refreshed.data.session!.refresh_token, back.data.session!.refresh_token);
    const wrong = await own.auth.signInWithPassword({ email, password: "wrong" });
    assert.deepEqual([wrong.error!.status, wrong.error!.code], [400, "invalid_credentials"]);
    const short = await own.auth.signUp({ email: `b.${email}`, password: "12345" });
    assert.deepEqual([short.error!.status, short.error!.code], [422, "weak_password"]);
  });

  it("returns the user of a token", async () => {
    const alice = await signUp("alice");
    const { status, body } = await ask("/auth/v1/user", { key: publishable, token: alice.token });
    assert.deepEqual(
      [status, body.id, body.email, body.role, body.aud],
      [200, alice.id, alice.email, "authenticated", "authenticated"],
    );
    assert.match(body.created_at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    for (const member of [
      "app_metadata",
      "user_metadata",
      "identities",
      "is_anonymous",
      "updated_at",
      "confirmed_at",
      "last_sign_in_at",
    ]) {
      assert.ok(member in body, member);
    }
    const forged = await ask("/auth/v1/user", {
      key: publishable,
      token: `${alice.token.slice(0, -4)}AAAA`,
    });
    assert.deepEqual([forged.status, forged.body.error_code], [403, "bad_jwt"]);
  });

  it("publishes no keys, because HS256 has no public keys, and reports that it is healthy", async () => {
    const jwks = await ask("/auth/v1/.well-known/jwks.json");
    assert.deepEqual([jwks.status, jwks.body], [200, { keys: [] }]);
    const health = await ask("/auth/v1/health", { key: publishable });
    assert.deepEqual([health.status, health.body.name], [200, "GoTrue"]);
  });
});

describe("a session", () => {
  const sessionOf = (token: string) => claimsOf(token).session_id as string;
  const isOpen = async (token: string) =>
    (await admin`select from auth.sessions where id = ${sessionOf(token)}`).length === 1;

  /** Signs the same user in on several devices. */
  async function devices(count: number) {
    const [email, password] = [`ada.${randomUUID()}@example.com`, randomUUID()];
    await service.auth.admin.createUser({ email, password, email_confirm: true });
    const made = Array.from({ length: count }, async () => {
      const own = client(publishable);
      const { data } = await own.auth.signInWithPassword({ email, password });
      return { own, token: data.session!.access_token };
    });
    return Promise.all(made);
  }

  it("is named in its token, which has the same claims as on hosted Supabase", async () => {
    const alice = await signUp("alice");
    const [row] = await admin`select user_id, aal, not_after from auth.sessions where id = ${sessionOf(alice.token)}`;
    assert.deepEqual({ ...row }, { user_id: alice.id, aal: "aal1", not_after: null });
    const claims = claimsOf(alice.token);
    assert.deepEqual(
      [claims.aal, claims.is_anonymous, claims.phone, claims.iss],
      ["aal1", false, "", `${url}/auth/v1`],
    );
    assert.deepEqual(
      [claims.sub, claims.email, claims.role, claims.aud],
      [alice.id, alice.email, "authenticated", "authenticated"],
    );
    assert.equal((claims.app_metadata as { provider: string }).provider, "email");
    const [method] = claims.amr as { method: string; timestamp: number }[];
    assert.equal(method!.method, "password");
    assert.ok(Math.abs(method!.timestamp - (claims.iat as number)) < 60);
  });

  it("has a token with aal2 after the second factor was used", async () => {
    const alice = await signUp("alice");
    await admin`
      insert into auth.mfa_factors (id, user_id, factor_type, status, created_at, updated_at, secret)
      values (${randomUUID()}, ${alice.id}, 'totp', 'verified', now(), now(), 'x')`;
    await admin`update auth.sessions set aal = 'aal2' where id = ${sessionOf(alice.token)}`;
    const { data } = await alice.client.auth.refreshSession();
    const claims = claimsOf(data.session!.access_token);
    assert.equal(claims.session_id, sessionOf(alice.token));
    assert.equal(claims.aal, "aal2");
    assert.deepEqual(
      (claims.amr as { method: string }[]).map(({ method }) => method),
      ["totp", "password"],
    );
    await service.auth.admin.deleteUser(alice.id);
    const left = await admin`select from auth.mfa_factors where user_id = ${alice.id}`;
    assert.equal(left.length, 0);
  });

  it("ends with a sign-out of scope local, others or global, and global is the default", async () => {
    for (const [scope, open] of [
      ["local", [false, true, true]],
      ["others", [true, false, false]],
      ["global", [false, false, false]],
      [undefined, [false, false, false]],
    ] as const) {
      const made = await devices(3);
      const where = scope ? `?scope=${scope}` : "";
      const { token } = made[0]!;
      const done = await ask(`/auth/v1/logout${where}`, { method: "POST", key: publishable, token });
      assert.equal(done.status, 204);
      assert.deepEqual(await Promise.all(made.map((one) => isOpen(one.token))), open, scope);
      for (const [index, { own, token }] of made.entries()) {
        const user = await ask("/auth/v1/user", { key: publishable, token });
        assert.equal(user.status, open[index] ? 200 : 403, scope);
        assert.equal((await own.auth.refreshSession()).error === null, open[index], scope);
      }
    }
    const { token } = (await devices(1))[0]!;
    const odd = await ask("/auth/v1/logout?scope=mars", { method: "POST", key: publishable, token });
    assert.equal(odd.status, 400);
  });

  it("of a banned user stays, but Auth refuses its token, its renewal and the password", async () => {
    const [email, password] = [`ada.${randomUUID()}@example.com`, randomUUID()];
    const made = await service.auth.admin.createUser({ email, password, email_confirm: true });
    const { id } = made.data.user!;
    const own = client(publishable);
    const { data } = await own.auth.signInWithPassword({ email, password });
    const token = data.session!.access_token;
    const post = (grant: string, body: object) =>
      ask(`/auth/v1/token?grant_type=${grant}`, { method: "POST", key: publishable, body });
    await service.auth.admin.updateUserById(id, { ban_duration: "24h" });
    assert.equal(await isOpen(token), true);
    for (const given of [password, "wrong"]) {
      const refused = await post("password", { email: email.toUpperCase(), password: given });
      assert.deepEqual(
        [refused.status, refused.body],
        [400, { code: 400, error_code: "user_banned", msg: "User is banned" }],
      );
    }
    const renewed = await post("refresh_token", { refresh_token: data.session!.refresh_token });
    assert.deepEqual(
      [renewed.status, renewed.body.error_code, renewed.body.msg],
      [400, "user_banned", "Invalid Refresh Token: User Banned"],
    );
    for (const [method, path] of [["GET", "user"], ["PUT", "user"], ["POST", "logout"]] as const) {
      const body = method === "PUT" ? { data: {} } : undefined;
      const refused = await ask(`/auth/v1/${path}`, { method, key: publishable, token, body });
      assert.deepEqual([refused.status, refused.body.error_code], [403, "user_banned"], path);
    }
    await service.auth.admin.updateUserById(id, { ban_duration: "none" });
    assert.equal((await own.auth.refreshSession()).error, null);
    const odd = await service.auth.admin.updateUserById(id, { ban_duration: "a while" });
    assert.deepEqual([odd.error!.status, odd.error!.code], [400, "validation_failed"]);
  });
});

describe("the administration of Auth", () => {
  it("creates users who can sign in, and finds, changes and lists them", async () => {
    const [email, password] = [`grace.${randomUUID()}@example.com`, randomUUID()];
    const made = await service.auth.admin.createUser({
      email,
      password,
      email_confirm: true,
      user_metadata: { name: "Grace" },
      app_metadata: { plan: "free" },
    });
    assert.equal(made.error, null);
    const { id } = made.data.user!;
    assert.equal(made.data.user!.app_metadata.plan, "free");
    assert.ok(made.data.user!.email_confirmed_at);
    const own = client(publishable);
    assert.equal(
      (await own.auth.signInWithPassword({ email, password })).data.user!.user_metadata.name,
      "Grace",
    );
    const found = await service.auth.admin.getUserById(id);
    assert.deepEqual([found.data.user!.email, found.data.user!.identities!.length], [email, 1]);
    const changed = await service.auth.admin.updateUserById(id, {
      user_metadata: { name: "G." },
      password: "another one",
    });
    assert.equal(changed.data.user!.user_metadata.name, "G.");
    assert.equal(
      (await own.auth.signInWithPassword({ email, password: "another one" })).error,
      null,
    );
    const banned = await service.auth.admin.updateUserById(id, { ban_duration: "24h" });
    assert.ok(
      Date.parse((banned.data.user as unknown as { banned_until: string }).banned_until) >
        Date.now(),
    );
    const listed = await service.auth.admin.listUsers({ page: 1, perPage: 2 });
    assert.ok(listed.data.users.length <= 2 && listed.data.users.some((user) => user.id === id));
    const again = await service.auth.admin.createUser({ email, password });
    assert.deepEqual([again.error!.status, again.error!.code], [422, "email_exists"]);
    assert.equal((await service.auth.admin.deleteUser(id)).error, null);
  });

  it("deletes users with everything that refers to them, and answers 404 if there is no such user", async () => {
    const alice = await signUp("alice");
    assert.equal((await service.auth.admin.deleteUser(alice.id)).error, null);
    const [left] = await admin`select
      (select count(*)::int from auth.sessions where user_id = ${alice.id}) as sessions,
      (select count(*)::int from auth.identities where user_id = ${alice.id}) as identities`;
    assert.deepEqual({ ...left }, { sessions: 0, identities: 0 });
    const gone = await service.auth.admin.getUserById(alice.id);
    assert.deepEqual([gone.error!.status, gone.error!.code], [404, "user_not_found"]);
    const user = await ask("/auth/v1/user", { key: publishable, token: alice.token });
    assert.equal(user.status, 403);
  });

  it("refuses to delete a user if a foreign key without cascade refers to the user, as on hosted Supabase", async () => {
    const alice = await signUp("alice");
    await admin.unsafe(`create table public.stack_refers (person uuid references auth.users (id))`);
    await admin`insert into public.stack_refers values (${alice.id})`;
    const kept = await ask(`/auth/v1/admin/users/${alice.id}`, { method: "DELETE", key: secret });
    await admin.unsafe("drop table public.stack_refers");
    assert.deepEqual([kept.status, kept.body.msg], [500, "Database error deleting user"]);
    assert.equal((await service.auth.admin.getUserById(alice.id)).data.user!.id, alice.id);
  });

  it("requires the secret key", async () => {
    const alice = await signUp("alice");
    const asPerson = await ask("/auth/v1/admin/users", { key: publishable, token: alice.token });
    assert.deepEqual([asPerson.status, asPerson.body.error_code], [403, "not_admin"]);
    const asNobody = await ask("/auth/v1/admin/users", { key: publishable });
    assert.equal(asNobody.status, 401);
    const withoutKey = await ask(`/auth/v1/admin/users/${alice.id}`, { method: "DELETE" });
    assert.equal(withoutKey.status, 401);
    const bearer = await ask("/auth/v1/admin/users", { token: secret });
    assert.equal(bearer.status, 401);
  });
});
