// A provider with one client; whoever types a name is that person. Prints where it is.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'bastide',
      client_secret: 'a secret: with / and %41',
      redirect_uris: ['http://localhost:8250/oidc/callback'],
      response_types: ['code'],
      grant_types: ['authorization_code'],
    }],
    pkce: { required: () => true },
    claims: { openid: ['sub'], team: ['groups', 'email'] },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, groups: ['dev', 'ops'], email: `${id}@id.example` }),
    }),
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ['only for tests'] },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
