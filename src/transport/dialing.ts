/** Opens sockets, plain or TLS, and reads addresses. */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** PEM texts. `ca` is the cluster's own authority: whoever it signed may be a member. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** `onOpen` runs once the connection (and TLS) stands. */
export function dial(host: string, port: number, tls: TlsFiles | null, onOpen: () => void): Socket {
  if (tls === null) return connectPlain({ host, port }, onOpen);
  return connectTls(
    {
      host,
      port,
      ...tls,
      minVersion: "TLSv1.3",
      rejectUnauthorized: true,
      // The chain must lead to the cluster's own CA (like sslmode=verify-ca); nodes are told apart by the handshake,
      // and may be reached by addresses that no certificate lists.
      checkServerIdentity: () => undefined,
    },
    onOpen,
  );
}

/** "host:port" or "[v6]:port"; null when it is neither. */
export function parseAddress(address: string): { readonly host: string; readonly port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port };
}
