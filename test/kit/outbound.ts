// Tests and their targets are on loopback, which the filter of outbound requests keeps out by default.
import { outboundWith } from "../../transport/outbound.ts";

export const loopbackAllowed = outboundWith({
  hosts: [],
  blocks: [
    ["127.0.0.0", 8],
    ["::1", 128],
  ],
});
