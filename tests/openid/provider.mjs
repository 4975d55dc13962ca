// A real OpenID provider on loopback: node provider.mjs PORT CLIENT SECRET REDIRECT_URI. A line on stdout says that it listens.
// Every name may sign in with any password. Each process has signing keys of its own.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const [port, client, secret, redirect] = process.argv.slice(2);
const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: client, client_secret: secret, redirect_uris: [redirect] }],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "picture"] },
  cookies: { keys: ["only for tests"] },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@acme.example`, email_verified: true, name: `The ${id}` }),
  }),
  jwks: { keys: [{ ...key, use: "sig", alg: "RS256", kid: `key-${process.pid}` }] },
  pkce: { required: () => true },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
