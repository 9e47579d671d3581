# SPDX-License-Identifier: GPL-2.0-only
# The one entry point; `make` alone lists the targets. Everything made is in build/, nothing is installed but the host packages
# that lab/root/setup names.

MAKEFLAGS += --no-print-directory --no-builtin-rules
KERNEL ?= patched
BASE ?= linux
POSTING ?=
VERSION ?=

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: ## host packages (when root) and the tool root in build/root; MIRROR=URL for another Debian archive
	@lab/root/setup

versions: setup ## what the tool root was made of
	@cat build/root/lab-versions

tree: setup base ## unpack a base and apply its patches as commits: build/tree/$(BASE)
	@lab/in-root python3 lab/tree/tree.py make $(BASE)

export: setup base ## write the commits of build/tree/$(BASE) back to patches/$(BASE)
	@lab/in-root python3 lab/tree/tree.py export $(BASE)

series: setup base ## the mails to send, build/series/*.mbox: all postings of BASE=, or POSTING=; VERSION= when not its newest
	@lab/series/make '$(BASE)' '$(POSTING)' '$(VERSION)'

kernel: setup ## build a kernel: KERNEL=patched (the default) or another one of lab/README.md
	@lab/build kernel $(KERNEL)

qemu: setup ## build QEMU with patches/qemu, for the machine "nested"
	@lab/qemu/build

selftests: setup ## build the selftests of VFIO and iommufd, of stock and patched
	@lab/build selftests stock
	@lab/build selftests patched

tools: setup ## vfio-msi, which shows where doorbells can live on a machine, for arm64 and x86-64: build/tools
	@tools/build

test: setup ## everything that must pass; ends with "N passed, N failed, N skipped"; SUITES="WORD..." for some of it
	@tests/run $(SUITES)

check: setup ## static: checkpatch, sparse, W=1, kernel-doc, coccinelle, every patch builds, and this repository's own scripts
	@lab/check

bases: setup ## try the series on every base of its kind that Debian offers, and write down in README.md how it went
	@tests/bases/run

coverage: setup ## which lines that the series adds are executed by the tests, and why the others are not
	@lab/build kernel coverage
	@lab/build selftests patched
	@tests/module/build coverage
	@lab/in-root python3 tests/coverage.py

mutants: setup ## make mistakes in the series, one by one: do the tests notice? MUTANTS="NUMBER..." for some of them
	@lab/build kernel mutants
	@lab/build selftests patched
	@tests/module/build mutants
	@tests/model/build
	@lab/in-root python3 tests/mutants.py $(MUTANTS)

campaign: setup ## what takes long: coverage, mutants, data races, more machines; under an hour, ends with a table
	@lab/in-root python3 tests/campaign.py

lts: setup ## the backport, on its kernel: what the tests of mainline find there, and what fault injection finds
	@tests/run --lts

bench: setup ## instructions per operation, stock and patched, their ratio, and sizes; fails when the series costs too much
	@bench/run

bench-lab: setup ## how long the lab's own steps take, cold and warm; most of an hour
	@bench/lab

demo: setup ## stock and patched side by side: where do doorbells live?
	@lab/demo/run

shell: setup ## an interactive shell on the virtual host; KERNEL= as above
	@lab/build kernel $(KERNEL)
	@lab/build selftests $(KERNEL)
	@lab/run --kernel $(KERNEL) --shell

clean: ## remove outputs; the tool root and the trees stay
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name root ! -name tree ! -name "*.lock" -exec rm -rf {} +

distclean: ## remove all of build/
	@lab/root/setup remove

# A base is a file in bases/ and a folder in patches/.
base:
	@[ -e bases/$(BASE) ] || { echo "make: there is no BASE '$(BASE)' (yet): bases/ has $$(ls bases | tr '\n' ' ')" >&2; exit 1; }

.PHONY: help setup versions tree export series kernel qemu selftests tools test check bases coverage mutants campaign lts bench bench-lab demo shell clean distclean base
