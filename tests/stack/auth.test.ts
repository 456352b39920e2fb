import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, it } from "node:test";
import { admin, ask, client, publishable, secret, service, signUp } from "./project.ts";

describe("Auth", () => {
  it("gives a session at once, and people come back with their password", async () => {
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

  it("says who a token belongs to", async () => {
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

  it("has no public keys to show, for HS256 has none, and says that it is well", async () => {
    const jwks = await ask("/auth/v1/.well-known/jwks.json");
    assert.deepEqual([jwks.status, jwks.body], [200, { keys: [] }]);
    const health = await ask("/auth/v1/health", { key: publishable });
    assert.deepEqual([health.status, health.body.name], [200, "GoTrue"]);
  });
});

describe("the administration of Auth", () => {
  it("makes people who can sign in, finds, changes and lists them", async () => {
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

  it("deletes people with all that refers to them, and says when there is nobody", async () => {
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

  it("keeps a person who is referred to without cascade, as hosted does", async () => {
    const alice = await signUp("alice");
    await admin.unsafe(`create table public.stack_refers (person uuid references auth.users (id))`);
    await admin`insert into public.stack_refers values (${alice.id})`;
    const kept = await ask(`/auth/v1/admin/users/${alice.id}`, { method: "DELETE", key: secret });
    await admin.unsafe("drop table public.stack_refers");
    assert.deepEqual([kept.status, kept.body.msg], [500, "Database error deleting user"]);
    assert.equal((await service.auth.admin.getUserById(alice.id)).data.user!.id, alice.id);
  });

  it("is for the secret key alone", async () => {
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
