# make run    start a family server on this machine
# make test   run all tests
# make help   the rest

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
GO      ?= go

# A build depends on the sources and VERSION alone: no paths, no time, no build id.
BUILDFLAGS := -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION)"
# 15 MiB is the most that the program may take on a card.
MAXSIZE := 15728640

# The card is for arm64 alone; without its part the builds for older boards are within that. No board is amd64.
TAGS_armv7 := -tags nocard
TAGS_armv6 := -tags nocard

ARCHS := amd64 arm64 armv7 armv6
DIST  := $(addprefix dist/pibox-linux-,$(ARCHS))
# The oldest processor of each kind that a build must run on.
QEMU_arm64 := qemu-aarch64 -cpu cortex-a53
QEMU_armv7 := qemu-arm -cpu cortex-a7
QEMU_armv6 := qemu-arm -cpu arm1176

# The race detector needs a C compiler; the program itself does not.
RACE ?= $(if $(shell command -v $$($(GO) env CC)),-race)
# Time for each fuzz target.
FUZZTIME ?= 5m

# The scripts that are run with an emulated build: all that need no server, and accounts and health of one. A second
# start and a restore are not among them: they read a database in a child process, which an emulated one can not start.
SMOKE := ^(TestScripts|TestBox)$$/^(help|usage|not_running|config|accounts|health)$$

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

goarch = GOOS=linux GOARCH=$(patsubst armv%,arm,$(1)) GOARM=$(patsubst armv%,%,$(filter armv%,$(1))) CGO_ENABLED=0

.PHONY: help
help: ## show these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

.PHONY: run
run: build ## start a family server on this machine
	bin/pibox serve

.PHONY: build
build: ## build bin/pibox for this machine
	CGO_ENABLED=0 $(GO) build $(BUILDFLAGS) -o bin/pibox ./cmd/pibox

.PHONY: test
test: ## run all tests, with the race detector where there is a C compiler
	@test -n "$(RACE)" || echo "no C compiler: testing without the race detector ('apt-get install gcc libc6-dev')"
	$(GO) test $(RACE) ./...

.PHONY: check
check: ## formatting, vet, staticcheck, who imports whom, the systemd unit
	@unformatted=$$(gofmt -l cmd internal); test -z "$$unformatted" || { echo "not formatted (gofmt -w): $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) list -json ./... | $(GO) run ./internal/tools/importrules
	sh image/check-unit.sh

FUZZPKGS ?= ./...
.PHONY: fuzz
fuzz: ## run every fuzz target (of FUZZPKGS) for FUZZTIME (5m)
	@internal/tools/fuzz.sh '$(GO)' '$(FUZZTIME)' $(FUZZPKGS)

.PHONY: cross $(DIST)
cross: $(DIST) ## build dist/ for amd64, arm64, arm v7 and v6
	@for f in $^; do size=$$(stat -c %s $$f); echo "$$f $$size"; \
		case $$f in *amd64) continue ;; esac; \
		test $$size -le $(MAXSIZE) || { echo "$$f is larger than $(MAXSIZE) bytes"; exit 1; }; done
	@cd dist && sha256sum $(notdir $(DIST)) >SHA256SUMS

$(DIST): dist/pibox-linux-%:
	$(call goarch,$*) $(GO) build $(BUILDFLAGS) $(TAGS_$*) -o $@ ./cmd/pibox

.PHONY: repro
repro: cross ## build again elsewhere, with an empty cache, and compare every byte
	@set -e; tmp=$$(mktemp -d); trap 'chmod -R u+w "$$tmp"; rm -rf "$$tmp"' EXIT; \
	mkdir "$$tmp/elsewhere"; cp -r Makefile go.mod go.sum cmd internal "$$tmp/elsewhere"; \
	GOCACHE="$$tmp/cache" $(MAKE) --no-print-directory -C "$$tmp/elsewhere" cross VERSION='$(VERSION)'; \
	for a in $(ARCHS); do cmp dist/pibox-linux-$$a "$$tmp/elsewhere/dist/pibox-linux-$$a"; done; \
	echo "byte-identical: $(ARCHS)"

.PHONY: smoke
smoke: cross ## run the command scripts with the ARM builds, emulated
	@command -v qemu-arm qemu-aarch64 >/dev/null || { echo "emulation is missing: apt-get install qemu-user"; exit 1; }
	@set -e; $(foreach a,arm64 armv7 armv6,echo "$(a)"; \
		PIBOX_UNDER_TEST="$$(command -v $(firstword $(QEMU_$(a)))) $(wordlist 2,9,$(QEMU_$(a))) $(CURDIR)/dist/pibox-linux-$(a)" \
			$(GO) test -count=1 -run '$(SMOKE)' ./cmd/pibox;)

.PHONY: image
image: dist/pibox-linux-arm64 ## build the card image for a Raspberry Pi (installs what it needs: Debian, as root; docs/image.md)
	@test "$$(id -u)" != 0 || image/setup.sh
	VERSION='$(VERSION)' GO='$(GO)' image/build.sh

.PHONY: image-lock
image-lock: ## take today's versions of Debian's packages for the image
	image/lock.sh

.PHONY: image-repro
image-repro: image ## build the image again elsewhere, and compare
	VERSION='$(VERSION)' GO='$(GO)' image/repro.sh

.PHONY: image-test
image-test: ## boot the image in QEMU, and try it from outside and inside
	@test "$$(id -u)" != 0 || image/setup.sh
	$(GO) run ./internal/tools/imagetest

CUTS ?= 50
.PHONY: image-torture
image-torture: build ## cut the power of the running image CUTS (50) times: first start, chat, update, restore (SEED; an hour and more)
	$(GO) run ./internal/tools/imagetest -cuts $(CUTS) -seed $(SEED)

.PHONY: demo
demo: build ## play a move on three boxes on this machine, and explain it
	$(GO) run ./internal/tools/demo -pibox bin/pibox

.PHONY: interop
interop: build ## slixmpp, aioxmpp, Prosody and ejabberd against it (installs them: Debian, as root)
	internal/interop/setup.sh
	/usr/bin/python3 -B internal/interop/suites.py bin/interop-suites
	internal/interop/run.py --pibox bin/pibox

ROUNDS ?= 200
MOVES  ?= 200
SEED   ?= 0
# card: power cuts on a disk that forgets what is not synced, by FUSE. kernel: kills alone.
DISK   ?= card
.PHONY: torture
torture: build ## cut its power ROUNDS (200) times under load, and in MOVES (200) moves (SEED, DISK): nothing may be lost
	test $(ROUNDS) = 0 || $(GO) run ./internal/tools/torture -pibox bin/pibox -rounds $(ROUNDS) -seed $(SEED) -disk $(DISK)
	test $(MOVES) = 0 || $(GO) run ./internal/tools/torture -pibox bin/pibox -moves -rounds $(MOVES) -seed $(SEED) -disk $(DISK)

# Debian's u-boot and kernel are kept here. raspi3b starts slowly: the cases with a trial are enough.
SLOTCACHE ?= $(HOME)/.cache/pibox-slot-test
.PHONY: slot-test
slot-test: ## boot small cards under QEMU: which root slot is taken, and what is left in the slots' state
	internal/tools/slottest/setup.sh $(SLOTCACHE)
	$(GO) run ./internal/tools/slottest -debian $(SLOTCACHE)
	$(GO) run ./internal/tools/slottest -debian $(SLOTCACHE) -machine raspi3b -case trial

TRIALS ?= 40
.PHONY: trial-test
trial-test: ## play the trial of an update with real daemons, and kill them TRIALS (40) times (SEED)
	$(GO) run ./internal/tools/trialtest -rounds $(TRIALS) -seed $(SEED)

SOAKTIME ?= 30m
BOXES    ?= 1
.PHONY: soak
soak: build ## let 60 devices on BOXES (1) come and go for SOAKTIME (30m; SEED): each has what the archive has
	$(GO) run ./internal/tools/soak -pibox bin/pibox -for $(SOAKTIME) -boxes $(BOXES) -seed $(SEED)

.PHONY: bench
bench: build ## measure it beside Prosody and ejabberd of Debian 13 (installs them, as root): docs/performance.md
	internal/tools/bench/setup.sh
	$(GO) run ./internal/tools/bench -pibox bin/pibox

.PHONY: prove
prove: ## build faults in on purpose, and see that torture finds each
	$(GO) run ./internal/tools/torture -prove

.PHONY: check-ansible
check-ansible: ## ansible-lint (installs it, into bin/)
	@ansible/tests/venv.sh bin/ansible-lint-venv ansible/requirements.txt
	cd ansible && PATH="$(CURDIR)/bin/ansible-lint-venv/bin:$$PATH" ansible-lint

.PHONY: ansible-test
ansible-test: cross ## the playbooks against Debian in two containers (systemd-nspawn, as root): docs/ansible.md
	ansible/tests/setup.sh
	@ansible/tests/venv.sh bin/ansible-test-venv ansible/tests/requirements.txt
	bin/ansible-test-venv/bin/python -B ansible/tests/guests.py containers

.PHONY: ansible-guest-test
ansible-guest-test: cross ## the role in trees for every Pi, and on a machine, emulated (installs QEMU, as root)
	ansible/tests/setup.sh emulation
	@ansible/tests/venv.sh bin/ansible-test-venv ansible/tests/requirements.txt
	bin/ansible-test-venv/bin/python -B ansible/tests/trees.py
	bin/ansible-test-venv/bin/python -B ansible/tests/guests.py machine
