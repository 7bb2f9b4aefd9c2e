// A certificate for loopback addresses, of its own authority, and its key: for tests, worth nothing anywhere else.
// openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj "/CN=…" \
//   -addext "subjectAltName=IP:127.0.0.1,IP:127.0.0.2,DNS:localhost,IP:127.0.0.40,…,IP:127.0.0.99"
import { readFileSync } from "node:fs";

const file = (name: string): string => readFileSync(new URL(name, import.meta.url), "utf8");

export const loopbackTls = { key: file("key.pem"), cert: file("certificate.pem") };
