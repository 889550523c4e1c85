#!/bin/sh
# Installs what the tests need beside Go, where it is missing: a C compiler for
# the race detector and librdkafka, kcat, curl for the README's commands, and,
# for root, ip: brokers get networks of their own, whose links can be cut.
set -eu
missing=
command -v gcc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v kcat >/dev/null 2>&1 || missing="$missing kcat"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
[ "$(id -u)" != 0 ] || command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of packages
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
	exit 0
fi
echo "the tests need:$missing (names of Debian packages); please install them" >&2
exit 1
