#!/usr/bin/env python3
"""Drives the page in Debian's chromium, headless, against daemons with and without tokens, plain
and over TLS; and lures the browser to pages of other sites that would switch something.

    tests/page/test_page.py DAEMON [SCREENSHOT_FOLDER]

DAEMON is the program under test. Screenshots are for people to look at.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request

for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
    if not shutil.which(program):
        sys.exit(f"this test needs {program}: apt-get install {package}")
try:
    from selenium import webdriver
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    sys.exit("this test needs selenium: target/test-venv/bin/python -m pip install selenium")

PDUS = {
    "rack1": {
        "driver": "simulated", "outlets": 4, "about": "Shelf A, left",
        "outlet_names": {"1": "build server", "3": "network switch"},
    },
    "rack2": {"driver": "simulated", "outlets": 3, "refuse_outlets": [2]},
    "away": {"driver": "simulated", "outlets": 2, "hang_outlets": [1], "timeout": 0.3, "retries": 1},
    "<b>odd & \"name\"/1": {"driver": "simulated", "outlets": 1},
}
ALL = "a-token-for-everything-there-is"
LITTLE = "a-token-for-switching-on-one-outlet"
# The hardest case: whoever comes from here needs no token on the old paths.
ACCESS = {
    "tokens": [
        {"name": "all", "sha256": hashlib.sha256(ALL.encode()).hexdigest()},
        {"name": "little", "sha256": hashlib.sha256(LITTLE.encode()).hexdigest(), "allow": [
            {"pdus": ["rack1", "desk"], "commands": ["get-status"]},
            {"pdus": ["desk"], "outlets": ["1"], "commands": ["on"]},
        ]},
    ],
    "trusted_networks": ["127.0.0.0/8"],
}
PATIENCE = 30


class Pair:
    """A certificate for this machine and its key, by an authority of the test's own."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.ca, self.certificate, self.key = folder / "ca.crt", folder / "pdud.crt", folder / "pdud.key"
        names = folder / "names"
        names.write_text("subjectAltName=IP:127.0.0.1")
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ca_key, asked = folder / "ca.key", folder / "pdud.csr"
        self.openssl("req", "-x509", *new, "-days", "30", "-subj", "/CN=test", "-keyout", ca_key, "-out", self.ca)
        self.openssl("req", "-new", *new, "-subj", "/CN=pdud", "-keyout", self.key, "-out", asked)
        self.openssl("x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", ca_key, "-CAcreateserial",
                     "-days", "30", "-extfile", names, "-out", self.certificate)

    def openssl(self, *words):
        return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout

    def fingerprint(self):
        """Of the key: the browser believes nobody else."""
        key = self.openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")
        return base64.b64encode(hashlib.sha256(key).digest()).decode()


class Lab:
    """A running daemon. Its PDU `desk` is a file: each outlet's state is the last line about it."""

    def __init__(self, program, folder, access, secure):
        folder = pathlib.Path(folder)
        folder.mkdir()
        self.pair = Pair(folder) if secure else None
        self.trust = ssl.create_default_context(cafile=self.pair.ca) if secure else None
        self.record = folder / "record"
        self.record.touch()
        echo = f"echo '%s {{}}' >>{self.record}"
        desk = {
            "driver": "localcmdline", "cmd_on": echo.format("on"), "cmd_off": echo.format("off"),
            "outlet_names": {"1": "board", "2": "oscilloscope"}, "retries": 1,
        }
        daemon = {"hostname": "127.0.0.1", "port": 0, "access": access}
        if secure:
            pair = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)}
            daemon["tls"] = pair | {"plain": "refuse"}
        config = folder / "page.conf"
        config.write_text(json.dumps({"daemon": daemon, "pdus": PDUS | {"desk": desk}}))
        self.printed = []
        self.token = ALL if "tokens" in access else None
        self.process = subprocess.Popen(
            [program, "--conf", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            self.printed.append(line)
            if "listening on " in line:
                self.url = ("https://" if secure else "http://") + line.split("listening on ")[1].strip()
                break
        else:
            sys.exit(f"the daemon did not start: {self.printed}")
        threading.Thread(target=lambda: self.printed.extend(self.process.stdout), daemon=True).start()

    def close(self):
        self.process.terminate()
        self.process.wait()

    def switched(self):
        """All that was done to the outlets of `desk`."""
        return self.record.read_text().splitlines()

    def ask(self, path, token=None):
        """As a program asks, not a browser."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=self.trust) as answer:
            return answer.read().decode()

    def state(self, pdu, outlet):
        """The outlet's state, read from the PDU at this moment."""
        return json.loads(self.ask(f"/api/v1/pdus/{pdu}/outlets/{outlet}/state", self.token))["state"]

    def denied(self):
        """How many requests were turned away before anything else was looked at."""
        lines = self.ask("/metrics", self.token).splitlines()
        counts = [line.split()[1] for line in lines
                  if line.startswith("pdudaemon_refusals_total{") and '"denied"' in line]
        return sum(map(int, counts))


@contextlib.contextmanager
def elsewhere(host, html):
    """A site at `host`, which has this one page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = html.encode() if self.path == "/" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1" if host == "localhost" else host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Page:
    def __init__(self, shots, profile, pair):
        options = webdriver.ChromeOptions()
        if pair:
            # It counts only with a profile that is named.
            options.add_argument(f"--user-data-dir={profile}")
            options.add_argument(f"--ignore-certificate-errors-spki-list={pair.fingerprint()}")
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage", "--window-size=1280,900", "--lang=en",
                         # Somebody else's name that leads to this machine.
                         "--host-resolver-rules=MAP evil.example 127.0.0.1"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        self.browser = webdriver.Chrome(options=options, service=service)
        self.shots = shots

    def close(self):
        self.browser.quit()

    def shot(self, name):
        if self.shots:
            self.browser.save_screenshot(str(pathlib.Path(self.shots, f"{name}.png")))

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, what, condition):
        wait = WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05)
        return wait.until(lambda _: condition(), f"not within {PATIENCE} s: {what}")

    def button(self, text, pdu, outlet):
        return self.one(f'button[aria-label="{text}: {pdu} outlet {outlet}"]')

    def row(self, pdu, outlet):
        return self.button("On", pdu, outlet).find_element(By.XPATH, "ancestor::li")

    def part(self, pdu, outlet, name):
        return self.row(pdu, outlet).find_element(By.CSS_SELECTOR, f".{name}").text

    def act(self, text, pdu, outlet):
        self.button(text, pdu, outlet).click()
        self.until("the question", lambda: self.one("#confirm").get_attribute("open"))
        self.one("#confirm-yes").click()

    def press(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self):
        return self.browser.switch_to.active_element

    def trouble(self, *expected):
        """What the browser has complained of: script errors, what the policy forbids, bad answers."""
        return [entry["message"] for entry in self.browser.get_log("browser")
                if entry["level"] == "SEVERE" and not any(text in entry["message"] for text in expected)]

    def rows(self):
        return [row for row in self.all("li.outlet") if row.is_displayed()]

    def log_in(self, token):
        self.until("the prompt", lambda: self.one("#login").get_attribute("open"))
        self.press(token, Keys.ENTER)


def test_list(page, lab):
    page.browser.get(lab.url)
    page.until("the list", lambda: len(page.all("article")) == 5)
    page.until("states are read", lambda: page.part("rack1", "1", "state") == "off")
    assert page.part("rack1", "1", "label") == "build server"
    names = [heading.text for heading in page.all("article h2")]
    assert '<b>odd & "name"/1' in names, names
    assert not page.all("article b"), "names are text, never markup"
    assert not page.one("#forget").is_displayed(), "there is no token to forget"


def test_on_and_off(page, lab):
    page.act("On", "rack1", "1")
    page.until("on", lambda: page.part("rack1", "1", "state") == "on")
    page.until("its result", lambda: "switched on" in page.part("rack1", "1", "result"))
    assert lab.state("rack1", "1") == "on"
    page.act("Off", "rack1", "1")
    page.until("off", lambda: page.part("rack1", "1", "state") == "off")
    assert lab.state("rack1", "1") == "off"
    page.act("On", "desk", "2")
    page.until("its result", lambda: "switched on" in page.part("desk", "2", "result"))
    assert lab.switched() == ["2 on"]
    page.button("On", "rack1", "1").click()
    page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
    page.press(Keys.ESCAPE)
    page.until("no question", lambda: not page.one("#confirm").get_attribute("open"))
    page.button("Off", "desk", "2").click()
    page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
    page.one("#confirm-no").click()
    page.until("no question", lambda: not page.one("#confirm").get_attribute("open"))
    assert lab.state("rack1", "1") == "off", "a question that is not answered does nothing"
    # Nothing is said against a PDU for states that cannot be read.
    assert not [error for error in page.all('article[aria-label="PDU desk"] .error') if error.is_displayed()]
    assert lab.switched() == ["2 on"], "nor does one that is answered with no"


def test_odd_names(page, lab):
    page.browser.execute_script(
        "[...document.querySelectorAll('button')].find(b => b.ariaLabel?.startsWith('On: <b>odd')).click()")
    page.one("#confirm-yes").click()
    row = [card for card in page.all("article") if "<b>odd" in card.text][0]
    page.until("on", lambda: "switched on" in row.text)
    assert lab.state(urllib.parse.quote('<b>odd & "name"/1', safe=""), "1") == "on"


def test_reboot_with_progress(page, lab):
    page.button("Reboot", "rack1", "3").click()
    page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
    assert "network switch" in page.one("#confirm-text").text
    page.shot("question")
    field = page.one("#delay")
    field.clear()
    field.send_keys("3")
    page.one("#confirm-yes").click()
    page.until("progress", lambda: "rebooting" in page.part("rack1", "3", "result"))
    bar = page.row("rack1", "3").find_element(By.CSS_SELECTOR, "progress")
    page.until("a moving bar", lambda: float(bar.get_attribute("value") or 0) > 1)
    assert page.button("Off", "rack1", "3").get_attribute("aria-disabled") == "true"
    assert lab.state("rack1", "2") == "off", "the pause holds up nobody else"
    page.shot("progress")
    page.until("rebooted", lambda: "rebooted in" in page.part("rack1", "3", "result"))
    assert lab.state("rack1", "3") == "on"
    page.until("on", lambda: page.part("rack1", "3", "state") == "on")
    page.until("in the list of requests", lambda: "rack1 3 reboot" in page.one("#requests").text)


def test_failures_tell_why(page, lab):
    page.act("On", "rack2", "2")
    page.until("the reason", lambda: page.part("rack2", "2", "result")
               == "✗ the PDU refused: outlet is locked (simulated)")
    assert lab.state("rack2", "2") == "off"
    page.act("On", "away", "1")
    page.until("the reason", lambda: page.part("away", "1", "result")
               == "✗ no answer in time (simulated)")
    page.until("not reachable", lambda: "not reachable" in page.one('article[aria-label="PDU away"]').text)
    page.until("in the summary", lambda: "1 not reachable" in page.one("#summary").text)
    page.until("in the list of requests", lambda: "no answer in time" in page.one("#requests").text)


def test_search_and_keyboard_only(page, lab):
    page.browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.press("/")
    assert page.focused().get_attribute("id") == "search"
    page.press("build")
    page.until("one match", lambda: len(page.rows()) == 1)

    def tab_to(name):
        for _ in range(8):
            if page.focused().get_attribute("aria-label") == name:
                return
            page.press(Keys.TAB)
        raise AssertionError(f"no way to {name}, but to {page.focused().get_attribute('outerHTML')}")

    for command, state in (("On", "on"), ("Off", "off")):
        tab_to(f"{command}: rack1 outlet 1")
        page.press(Keys.ENTER)
        page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
        page.press(Keys.ENTER)
        page.until(state, lambda: page.part("rack1", "1", "state") == state)
        assert lab.state("rack1", "1") == state
        page.until("focus is back",
                   lambda: page.focused().get_attribute("aria-label") == f"{command}: rack1 outlet 1")
    # The length of a reboot, and an end to the question.
    tab_to("Reboot: rack1 outlet 1")
    page.press(" ")
    page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
    page.press(Keys.SHIFT, Keys.TAB, Keys.TAB, Keys.NULL)
    assert page.focused().get_attribute("id") == "delay", page.focused().get_attribute("outerHTML")
    page.press(Keys.CONTROL, "a", Keys.NULL, "0", Keys.ENTER)
    page.until("rebooted", lambda: "rebooted in" in page.part("rack1", "1", "result"))
    assert lab.state("rack1", "1") == "on"
    # Whatever has the focus shows it.
    ring = page.browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid", ring
    page.press("/")
    page.press(Keys.ESCAPE)
    page.until("all again", lambda: len(page.rows()) == 12)


def test_phone_and_colours(page, _):
    page.browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    grounds = set()
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        page.shot(scheme)
        grounds.add(page.browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        faint = page.browser.execute_script(CONTRAST)
        assert not faint, f"{scheme}: hard to read: {faint}"
        for width in (320, 390):
            phone = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
            page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
            wide = page.browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"the page is {wide} pixels wide on a phone of {width}"
            small = [button.size for button in page.all("li.outlet button") if button.size["height"] < 44]
            assert not small, f"too small for a finger: {small}"
            page.shot(f"phone-{scheme}")
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(grounds) == 2, f"dark is as light: {grounds}"


# Texts with less contrast to what is behind them than WCAG AA wants.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (rgb) => {
  const [r, g, b] = rgb.map((c) => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())).map((node) => {
  const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))].sort((a, b) => b - a);
  return [node.textContent, Math.round((a + .05) / (b + .05) * 100) / 100];
}).filter(([, ratio]) => ratio < 4.5);
"""


def test_token_prompt(page, lab):
    page.browser.get(lab.url)
    page.until("the prompt", lambda: page.one("#login").get_attribute("open"))
    page.shot("token")
    page.press(Keys.ESCAPE)
    # A browser may close it, whatever the page says: then the page opens it again.
    page.until("the prompt, for without a token there is nothing to see",
               lambda: page.one("#login").get_attribute("open"))
    assert not page.all("article"), "nothing is shown before"
    page.log_in("wrong")
    page.until("asked again", lambda: page.one("#login").get_attribute("open")
               and "does not know this token" in page.one("#login-text").text)
    page.shot("token-wrong")
    assert not page.all("article")
    page.log_in(ALL)
    page.until("the list", lambda: len(page.all("article")) == 5)
    page.act("On", "rack1", "3")
    page.until("on", lambda: page.part("rack1", "3", "state") == "on")
    page.act("Off", "desk", "1")
    page.until("its result", lambda: "switched off" in page.part("desk", "1", "result"))
    assert (lab.state("rack1", "3"), lab.switched()) == ("on", ["1 off"])
    page.until("who it was", lambda: "by all@127.0.0.1" in page.one("#requests").text)
    kept = page.browser.execute_script("return [sessionStorage.length, localStorage.length, document.cookie]")
    assert kept == [1, 0, ""], kept
    # Kept over a reload, and gone when it is forgotten.
    page.browser.refresh()
    page.until("the list", lambda: len(page.all("article")) == 5)
    page.one("#forget").click()
    page.until("the prompt", lambda: page.one("#login").get_attribute("open"))
    assert not page.all("article")


def test_token_for_little(page, lab):
    lab.record.write_text("")
    page.log_in(LITTLE)
    page.until("its PDUs and no others",
               lambda: [heading.text for heading in page.all("article h2")] == ["desk", "rack1"])
    page.act("On", "desk", "1")
    page.until("switched", lambda: "switched on" in page.part("desk", "1", "result"))
    for command, pdu, outlet in (("Off", "desk", "1"), ("On", "desk", "2"), ("Reboot", "desk", "1"),
                                 ("Off", "rack1", "3")):
        page.act(command, pdu, outlet)
        why = f"✗ the token's rights do not cover {pdu} {outlet} {command.lower()}"
        page.until("the reason", lambda: page.part(pdu, outlet, "result") == why)
    page.shot("token-for-little")
    assert (lab.switched(), lab.state("rack1", "3")) == (["1 on"], "on")
    assert "by little@127.0.0.1" in page.one("#requests").text


# A page that tries all that a page can do to another site, and notes when it is through.
# `DAEMON` is replaced.
LURE = """<!doctype html><meta name=referrer content=no-referrer><title>lure</title>
<img id=old-1 src="DAEMON/power/control/off?hostname=desk&port=1">
<img id=api src="DAEMON/api/v1/pdus/desk/outlets/2/reboot">
<iframe name=sink1></iframe><iframe name=sink2></iframe><iframe name=sink3></iframe><iframe name=sink4></iframe>
<form id=form1 target=sink1 method=post action="DAEMON/power/control/off?hostname=desk&port=2"></form>
<form id=form2 target=sink2 method=post action="DAEMON/api/v1/pdus/desk/outlets/2/reboot"></form>
<form id=form3 target=sink3 method=post enctype=text/plain action="DAEMON/api/v1/requests">
<input name='{"targets": ["desk:2"], "command": "off", "x": "' value='"}'></form>
<form id=form4 target=sink4 method=get action="DAEMON/power/control/off">
<input name=hostname value=desk><input name=port value=3></form>
<script>
const api = "DAEMON/api/v1/pdus/desk/outlets/2";
const json = {"Content-Type": "application/json"};
const ends = [
  ...[...document.images].map((image) => image.complete ? "complete"
    : new Promise((end) => { image.onload = image.onerror = end; })),
  ...[...document.forms].map((form) => new Promise((end) => {
    const frame = document.querySelector(`iframe[name=${form.target}]`);
    frame.onload = end;
    form.submit();
  })),
  fetch("DAEMON/power/control/off?hostname=desk&port=4", {mode: "no-cors"}),
  fetch(`${api}/reboot`, {method: "POST", mode: "no-cors"}),
  fetch(`${api}/state`, {method: "POST", mode: "no-cors", body: '{"state": "off"}'}),
  fetch(`${api}/state`, {method: "PUT", headers: json, body: '{"state": "off"}'}),
  fetch(`${api}/state`).then((answer) => answer.text()).then((text) => { window.read = text; }),
];
Promise.allSettled(ends).then((all) => { window.through = all.length; });
</script>"""


def lured(page, lab, host, html=LURE):
    """Goes to a page at `host` that attacks the daemon; returns when it is through."""
    lab.record.write_text("")
    with elsewhere(host, html.replace("DAEMON", lab.url)) as url:
        page.browser.get(url)
        page.until("the page is through", lambda: page.browser.execute_script("return window.through") == 11)
        assert page.browser.execute_script("return window.read === undefined"), "another site reads states"
    return lab.switched()


# Other sites: another name, and another address of the machine that the daemon trusts.
SITES = ("localhost", "127.0.0.2")


def test_other_sites_switch_nothing_when_there_are_tokens(page, lab):
    assert lab.ask("/power/control/off?hostname=desk&port=9") == "OK - accepted request\n", "trusted"
    assert lab.switched()[-1] == "9 off"
    for host in SITES:
        before = lab.denied()
        assert lured(page, lab, host) == [], host
        # All eleven did come, and were turned away.
        assert lab.denied() - before == 11, host
        # A link that was clicked.
        page.browser.execute_script(
            "location.href = arguments[0]", f"{lab.url}/power/control/off?hostname=desk&port=5")
        page.until("the refusal", lambda: "Forbidden: " in page.one("body").text)
        assert lab.switched() == [], host


def test_a_name_that_leads_here_is_not_ours(page, lab):
    lab.record.write_text("")
    page.browser.get(lab.url.replace("127.0.0.1", "evil.example") + "/power/control/off?hostname=desk&port=1")
    assert "Forbidden: the Host header" in page.one("body").text
    status = page.browser.execute_async_script(
        "fetch('/api/v1/pdus/desk/outlets/1/reboot', {method: 'POST'}).then((a) => arguments[0](a.status))")
    assert (status, lab.switched()) == (403, [])


def test_nobody_frames_the_page(page, lab):
    html = f'<iframe src="{lab.url}/" onload="window.through = true"></iframe>'
    with elsewhere("localhost", html) as url:
        page.browser.get(url)
        page.until("the frame", lambda: page.browser.execute_script("return window.through"))
        page.browser.switch_to.frame(0)
        assert not page.all("#search"), "the page is in a frame"
        page.browser.switch_to.default_content()


def test_without_tokens_named_sites_may_use_the_old_links_and_others_nothing(page, lab):
    named, other = SITES
    before = lab.denied()
    assert lured(page, lab, other) == []
    assert lab.denied() - before == 11
    # The image, the form that gets, the fetch that gets: as web pages of labs have them. Such pages
    # say where they are.
    before = lab.denied()
    html = LURE.replace("<meta name=referrer content=no-referrer>", "")
    assert sorted(lured(page, lab, named, html)) == ["1 off", "3 off", "4 off"]
    # The form that posts there gets a 405, as from anywhere; the others were turned away.
    assert lab.denied() - before == 7


PLAIN = (
    test_list, test_on_and_off, test_odd_names, test_reboot_with_progress, test_failures_tell_why,
    test_search_and_keyboard_only, test_phone_and_colours, test_nobody_frames_the_page,
    test_without_tokens_named_sites_may_use_the_old_links_and_others_nothing,
)
GUARDED = (
    test_token_prompt, test_token_for_little, test_other_sites_switch_nothing_when_there_are_tokens,
    test_a_name_that_leads_here_is_not_ours, test_nobody_frames_the_page,
)
SECURE = (test_list, test_on_and_off, test_reboot_with_progress, test_failures_tell_why)
# Tests of what the browser must complain of.
COMPLAINTS = {
    test_token_prompt: [" 401 "],
    test_token_for_little: [" 401 ", " 403 "],
    test_other_sites_switch_nothing_when_there_are_tokens: [""],
    test_a_name_that_leads_here_is_not_ours: [" 403 "],
    test_nobody_frames_the_page: [""],
    test_without_tokens_named_sites_may_use_the_old_links_and_others_nothing: [""],
}


def main():
    program = sys.argv[1]
    shots = sys.argv[2] if len(sys.argv) > 2 else None
    if shots:
        pathlib.Path(shots).mkdir(parents=True, exist_ok=True)
    forgotten = {name for name in globals() if name.startswith("test_")} - {
        test.__name__ for test in PLAIN + GUARDED}
    assert not forgotten, forgotten
    with tempfile.TemporaryDirectory() as folder:
        for name, tests, access in (("plain", PLAIN, {"sites": SITES[:1]}), ("guarded", GUARDED, ACCESS),
                                    ("secure", SECURE, {}), ("secure-guarded", GUARDED[:2], ACCESS)):
            lab = Lab(program, pathlib.Path(folder, name), access, "secure" in name)
            page = Page(shots, pathlib.Path(folder, f"{name}-profile"), lab.pair)
            try:
                for test in tests:
                    test(page, lab)
                    trouble = page.trouble(*COMPLAINTS.get(test, ()))
                    assert not trouble, trouble
                    print(f"{name}: {test.__name__}: ok", flush=True)
            except BaseException:
                page.shot("failed")
                print("".join(lab.printed[-40:]))
                raise
            finally:
                page.close()
                lab.close()


main()
