// Token sources in a policy. Each mistake is answered with its field and the allowed form.
import { describe, expect, test } from "vitest";
import { readPolicy } from "../../state-machines/policy/policy.ts";

const source = { url: "http://target.example/guest", value: { jsonPointer: "/guest_token" } };
const read = (token: Record<string, unknown>) => readPolicy({ token });

const url = "must be an http or https URL, without a login in it";
const value = "one of them";
const life = "must be null,";
const line = "must be one line";

describe("refuses a source, naming the field,", () => {
  test.each<[string, object, string, string]>([
    ["with an invalid host", { url: "http://[bad/x" }, "url", url],
    ["with an invalid port", { url: "http://target.example:99999/" }, "url", url],
    ["with an invalid escape", { url: "http://%zz/" }, "url", url],
    ["with another scheme", { url: "ftp://target.example/" }, "url", url],
    ["with a login", { url: "http://user:pass@target.example/" }, "url", url],
    ["with a space", { url: "http://target.example/a b" }, "url", url],
    ["with a path alone", { url: "/guest" }, "url", url],
    ["with an invalid pointer", { value: { jsonPointer: "guest" } }, "value.jsonPointer", "JSON pointer"],
    ["with an invalid escape in the pointer", { value: { jsonPointer: "/a~2" } }, "value.jsonPointer", "JSON pointer"],
    ["with an invalid expression", { value: { regex: "(" } }, "value.regex", "regular expression"],
    ["with an empty expression", { value: { regex: "" } }, "value.regex", "regular expression"],
    ["with an invalid header", { value: { header: "a b" } }, "value.header", "name of a header"],
    ["with two places", { value: { header: "a", jsonPointer: "/b" } }, "value", value],
    ["with three places", { value: { header: "a", regex: "b", jsonPointer: "/c" } }, "value", value],
    ["with a cookie as a whole", { value: { header: "Set-Cookie" } }, "value", '"regex": "gt=([^;]+)"'],
    ["with no place", { value: {} }, "value", value],
    ["with a string in its place", { value: "/guest_token" }, "value", value],
    ["with a place unknown here", { value: { xpath: "//t" } }, "value.xpath", "unknown field"],
    ["with a header of the connection's", { headers: { host: "x" } }, "headers.host", "connection itself"],
    ["with one of the proxy's", { headers: { "Proxy-Authorization": "x" } }, "headers.Proxy-Authorization", "itself"],
    ["with a line break in a header", { headers: { "x-a": "a\r\nx-b: c" } }, "headers.x-a", line],
    ["with a line break in its name", { headers: { "x-a\r\nx-b": "c" } }, "headers.x-a\r\nx-b", "not the name"],
    ["with a header that is not a text", { headers: { "x-a": 1 } }, "headers.x-a", "must be a string"],
    ["with a character no header can have", { headers: { "x-a": "☃" } }, "headers.x-a", line],
    ["with a body that is not a string", { body: { a: 1 } }, "body", "must be a string, as it is to be sent"],
    ["with too long a body", { body: "x".repeat(16_385) }, "body", "at most 16384 characters"],
    ["with a body of a GET", { method: "GET", body: "x" }, "body", "a GET request has none"],
    ["with another method", { method: "DELETE" }, "method", "must be one of"],
    ["with a life of nothing", { life: { ms: 0 } }, "life.ms", "at least 1 ms"],
    ["with a unit unknown here", { life: { jsonPointer: "/e", unit: "min" } }, "life.unit", 'must be "s" or "ms"'],
    ["with two lives", { life: { ms: 5, regex: "a" } }, "life", life],
    ["with a number for a life", { life: 5 }, "life", life],
    ["with a time above the deadline", { timeoutMs: 20_000 }, "timeoutMs", "deadlineMs (15000)"],
    ["with a field unknown here", { follow: true }, "follow", "unknown field"],
  ])("%s", (_title, patch, field, message) => {
    const { refusal } = read({ source: { ...source, ...patch } }) as { refusal: { field: string; message: string } };
    expect(refusal).toMatchObject({ code: "invalid-request", field: `policy.token.source.${field}` });
    expect(refusal.message).toContain(message);
  });

  test("accepts an expression for a header's value, for the token and for its life", () => {
    const inCookie = { header: "set-cookie", regex: "gt=(\\d+)" };
    const token = { source: { ...source, value: inCookie, life: { header: "cache-control", regex: "age=(\\d+)" } } };
    expect(read(token)).toMatchObject({ policy: { token: { source: { value: inCookie } } } });
  });

  test("refuses a token request without a source", () => {
    for (const token of [{}, { source: null }, { source: "http://target.example/" }])
      expect(read(token)).toMatchObject({ refusal: { field: "policy.token.source" } });
  });
});

test("requires a refresh to be longer than the margin by which its request ends before it", () => {
  const token = { source: { ...source, timeoutMs: 50 }, deadlineMs: 100 };
  expect(readPolicy({ token, marginMs: 100 })).toMatchObject({ refusal: { field: "policy.token.deadlineMs" } });
  expect(readPolicy({ token, marginMs: 99 })).not.toHaveProperty("refusal");
});

test.each<[string, object]>([
  ["a value in a header", { value: { header: "X-Guest" } }],
  ["a value found by an expression, and a life", { value: { regex: "gt=(\\d+)" }, life: { regex: "max-age=(\\d+)" } }],
  ["the whole answer as JSON", { value: { jsonPointer: "" } }],
  ["a life in milliseconds", { life: { jsonPointer: "/expires", unit: "ms" } }],
  ["a fixed life", { life: { ms: 10_800_000 } }],
  ["a host and a path in other scripts", { url: "https://täst.example/gäste?ü=1" }],
  ["an address and a port", { url: "http://[::1]:8080/" }],
  ["headers, and a body as it is sent", { method: "PUT", headers: { "X-A": "b\tc" }, body: '{"a": 1}' }],
])("accepts %s", (_title, patch) => {
  expect(read({ source: { ...source, ...patch } })).toMatchObject({ policy: { token: { source: patch } } });
});
