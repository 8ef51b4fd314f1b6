/** Where a token comes from. With Firebase: `() => auth.currentUser!.getIdToken()`. */
export type GetToken = () => Promise<string>;

const issuer = import.meta.env.VITE_ISSUER ?? 'http://127.0.0.1:8090';

/** Signs in at the local issuer (cd examples && go run ./issuer), which believes any name. */
export function signIn(name: string): GetToken {
  let token = '';
  let expires = 0;
  return async () => {
    if (Date.now() > expires - 60_000) {
      const response = await fetch(`${issuer}/token?name=${encodeURIComponent(name)}`, { method: 'POST' });
      ({ token, expires } = await response.json());
    }
    return token;
  };
}
