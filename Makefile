# A thin front for scripts/, for those who have make. Everything works without it.
# `make install PREFIX=/usr DESTDIR=/tmp/package` stages an installation.

PREFIX ?= /usr/local
export PREFIX DESTDIR

.PHONY: run test bench coverage lint install uninstall

run:
	@scripts/run

test:
	@scripts/test

bench:
	@scripts/bench

coverage:
	@scripts/coverage

lint:
	@scripts/format
	@scripts/lint-man

install:
	@scripts/install

uninstall:
	@scripts/install --uninstall
