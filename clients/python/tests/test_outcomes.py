"""Each row of clients/classification.json, over each of its transports, with real connections (LAB)."""

import json
import os
import ssl
import unittest
from concurrent.futures import ThreadPoolExecutor

from stand_in import StandIn

from remuda_client import Client

ROWS = json.loads(os.environ["LAB"])
with open(os.environ["CLASSIFICATION"], encoding="utf-8") as file:
    FIXTURE = json.load(file)
TRUSTING = ssl.create_default_context(cafile=os.environ["CA"])
CERTIFICATE = "the target's certificate is not valid"

#: The limit that a row lets pass. Long enough for a second try on a busy machine. It takes no CPU time.
PATIENCE_S = 3.0
#: What this client does in a row.
OPTIONS = {
    "the proxy does not answer in time": {"connect_timeout": PATIENCE_S},
    "the other side does not answer in time": {"connect_timeout": PATIENCE_S},
    "the answer is a 304 with a Content-Length": {"headers": {"if-none-match": '"x"'}},
    "no answer comes within `headersTimeoutMs`": {"headers_timeout": PATIENCE_S},
    "the caller's time limit ends, and the proxy has had half of it": {"timeout": PATIENCE_S},
    "the caller's time limit ends, and the proxy has had less than half of it": {"timeout": 0.15},
    "nothing comes for `bodyTimeoutMs`": {"body_timeout": 0.2},
    "it drips past the caller's time limit": {"timeout": PATIENCE_S},
}
LEASE_S = {
    "the lease ends, and the request has had half of it": PATIENCE_S,
    "it drips past the lease's end": PATIENCE_S,
}


def class_of(outcome):
    """As the default policy classifies it."""
    if "reason" in outcome or outcome.get("result") == "success":
        return outcome.get("reason", "success")
    if "error" in outcome:
        return FIXTURE["error"].get(outcome["error"], FIXTURE["errorOtherwise"])
    status = str(outcome["status"])
    return FIXTURE["status"].get(status) or FIXTURE["status"].get(f"{status[0]}xx", FIXTURE["statusOtherwise"])


def play(row):
    what = row["what"]
    client = Client("http://127.0.0.1:1", target_context=None if what == CERTIFICATE else TRUSTING)
    service = client._service = StandIn(client.settings, [row["bad"], row["good"]], LEASE_S.get(what, 60.0))
    try:
        got = client.fetch(row["url"], tunnel_http=row["transport"] == "CONNECT", **OPTIONS.get(what, {})).status
    except OSError as error:
        got = error
    return got, [class_of(each) for each in service.outcomes], service.outcomes


class Outcomes(unittest.TestCase):
    def test_each_row_has_its_class_and_its_next_try(self):
        with ThreadPoolExecutor(32) as pool:
            for row, (got, classes, outcomes) in zip(ROWS, pool.map(play, ROWS)):
                with self.subTest(what=row["what"], transport=row["transport"]):
                    expected = [row["class"], "success"] if row["next"] == "another" else [row["class"]]
                    self.assertEqual(classes, expected, (got, outcomes))
                    if row["next"] == "another":
                        self.assertEqual(got, 200)
        self.assertGreater(len(ROWS), 80)


if __name__ == "__main__":
    unittest.main()
