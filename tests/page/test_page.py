#!/usr/bin/env python3
"""Drives the page in Debian's chromium, headless, against a daemon with simulated PDUs.

    tests/page/test_page.py DAEMON [SCREENSHOT_FOLDER]

DAEMON is the program under test. Screenshots are for people to look at.
"""

import contextlib
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
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

CONFIG = {
    "daemon": {"hostname": "127.0.0.1", "port": 0},
    "pdus": {
        "rack1": {
            "driver": "simulated", "outlets": 4, "about": "Shelf A, left",
            "outlet_names": {"1": "build server", "3": "network switch"},
        },
        "rack2": {"driver": "simulated", "outlets": 3, "refuse_outlets": [2]},
        "away": {"driver": "simulated", "outlets": 2, "hang_outlets": [1], "timeout": 0.3, "retries": 1},
        "<b>odd & \"name\"/1": {"driver": "simulated", "outlets": 1},
    },
}
PATIENCE = 30


@contextlib.contextmanager
def daemon(program, folder):
    """The daemon's address."""
    path = pathlib.Path(folder, "page.conf")
    path.write_text(json.dumps(CONFIG))
    process = subprocess.Popen([program, "--conf", str(path)], stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if "listening on " in line:
                address = line.split("listening on ")[1].strip()
                break
        else:
            sys.exit("the daemon did not start")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def guard(address, token):
    """A server in front of the daemon that wants a token, as the daemon itself does with tokens."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) or None
            if self.path.startswith("/api/") and self.headers.get("Authorization") != f"Bearer {token}":
                return self.say(401, "application/problem+json", b'{"detail": "a token is needed"}')
            headers = {"Content-Type": self.headers["Content-Type"]} if body else {}
            request = urllib.request.Request(address + self.path, body, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=90) as answer:
                    self.say(answer.status, answer.headers["Content-Type"], answer.read())
            except urllib.error.HTTPError as error:
                self.say(error.code, error.headers["Content-Type"], error.read())

        def say(self, status, kind, body):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


class Page:
    def __init__(self, shots):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu",
                         "--disable-dev-shm-usage", "--window-size=1280,900", "--lang=en"):
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


def test_list(page, address):
    page.browser.get(address)
    page.until("the list", lambda: len(page.all("article")) == 4)
    page.until("states are read", lambda: page.part("rack1", "1", "state") == "off")
    assert page.part("rack1", "1", "label") == "build server"
    names = [heading.text for heading in page.all("article h2")]
    assert '<b>odd & "name"/1' in names, names
    assert not page.all("article b"), "names are text, never markup"


def test_on_and_off(page, _):
    page.act("On", "rack1", "1")
    page.until("on", lambda: page.part("rack1", "1", "state") == "on")
    page.until("its result", lambda: "switched on" in page.part("rack1", "1", "result"))
    page.act("Off", "rack1", "1")
    page.until("off", lambda: page.part("rack1", "1", "state") == "off")
    page.button("On", "rack1", "1").click()
    page.press(Keys.ESCAPE)
    page.until("no question", lambda: not page.one("#confirm").get_attribute("open"))
    assert page.part("rack1", "1", "state") == "off", "a question that is not answered does nothing"


def test_odd_names(page, _):
    page.browser.execute_script(
        "[...document.querySelectorAll('button')].find(b => b.ariaLabel.startsWith('On: <b>odd')).click()")
    page.one("#confirm-yes").click()
    row = [card for card in page.all("article") if "<b>odd" in card.text][0]
    page.until("on", lambda: "switched on" in row.text)


def test_reboot_with_progress(page, _):
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
    page.until("a moving bar", lambda: float(bar.get_attribute("value") or 0) > 0)
    assert page.button("Off", "rack1", "3").get_attribute("aria-disabled") == "true"
    page.shot("progress")
    page.until("rebooted", lambda: "rebooted in" in page.part("rack1", "3", "result"))
    page.until("on", lambda: page.part("rack1", "3", "state") == "on")
    page.until("in the list of requests", lambda: "rack1 3 reboot" in page.one("#requests").text)


def test_failures_tell_why(page, _):
    page.act("On", "rack2", "2")
    page.until("the reason", lambda: "outlet is locked" in page.part("rack2", "2", "result"))
    page.act("On", "away", "1")
    page.until("the reason", lambda: "no answer in time" in page.part("away", "1", "result"))
    page.until("not reachable", lambda: "not reachable" in page.one('article[aria-label="PDU away"]').text)
    page.until("in the summary", lambda: "1 not reachable" in page.one("#summary").text)


def test_search_and_keyboard_only(page, _):
    page.browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.press("/")
    assert page.focused().get_attribute("id") == "search"
    page.press("build")
    page.until("one match", lambda: len([r for r in page.all("li.outlet") if r.is_displayed()]) == 1)
    page.press(Keys.TAB)
    for _ in range(8):
        if (page.focused().get_attribute("aria-label") or "").startswith("On: rack1 outlet 1"):
            break
        page.press(Keys.TAB)
    assert page.focused().get_attribute("aria-label") == "On: rack1 outlet 1"
    page.press(Keys.ENTER)
    page.until("the question", lambda: page.one("#confirm").get_attribute("open"))
    page.press(Keys.ENTER)
    page.until("on", lambda: page.part("rack1", "1", "state") == "on")
    page.until("focus is back", lambda: page.focused().get_attribute("aria-label") == "On: rack1 outlet 1")
    page.press("/")
    page.press(Keys.ESCAPE)
    page.until("all again", lambda: len([r for r in page.all("li.outlet") if r.is_displayed()]) == 10)


def test_looks(page, _):
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        page.shot(scheme)
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        wide = page.browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390, f"the page is {wide} pixels wide on a phone"
        page.shot(f"phone-{scheme}")
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_token(page, address):
    page.browser.get(guard(address, "s3cret"))
    page.until("the prompt", lambda: page.one("#login").get_attribute("open"))
    page.shot("token")
    page.press("wrong", Keys.ENTER)
    page.until("asked again", lambda: page.one("#login").get_attribute("open")
               and "not known" in page.one("#login-text").text)
    page.press("s3cret", Keys.ENTER)
    page.until("the list", lambda: len(page.all("article")) == 4)
    page.act("Off", "rack1", "3")
    page.until("off", lambda: page.part("rack1", "3", "state") == "off")
    kept = page.browser.execute_script("return [sessionStorage.length, localStorage.length, document.cookie]")
    assert kept == [1, 0, ""], kept


def main():
    program = sys.argv[1]
    shots = sys.argv[2] if len(sys.argv) > 2 else None
    if shots:
        pathlib.Path(shots).mkdir(parents=True, exist_ok=True)
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    with tempfile.TemporaryDirectory() as folder, daemon(program, folder) as address:
        page = Page(shots)
        try:
            for test in tests:
                test(page, address)
                print(f"{test.__name__}: ok", flush=True)
            # What the policy forbids, and every script error, is in the browser's log.
            bad = [entry["message"] for entry in page.browser.get_log("browser")
                   if entry["level"] == "SEVERE" and " 401 " not in entry["message"]]
            assert not bad, bad
        except BaseException:
            page.shot("failed")
            raise
        finally:
            page.close()


main()
