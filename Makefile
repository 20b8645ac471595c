# jitgate: `make demo` and `make test` are all that a newcomer needs. Both do their own set-up: a Python environment in
# .venv, and programs that the machine lacks unpacked into a cache folder. Nothing is installed and no service started.
.DEFAULT_GOAL := help
.PHONY: help demo demo-dex test test-peers check bench profile mutate pins env env-dev env-bench env-openbao parts dex python
.SUFFIXES:

PYTHON ?= python3
# Arguments passed on: make demo ARGS=--keep, make test ARGS='tests/unit -k principals'
ARGS ?=
# Tests at a time; they wait more than they work. Each worker starts its own Dex, PostgreSQL and OpenBao.
WORKERS ?= 3
BIN := .venv/bin

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

OPENLDAP = slapd core.schema back_mdb.so ldapmodify
OPENSSH = ssh scp sftp ssh-keygen ssh-keyscan ssh-agent ssh-add sshd sftp-server libnss_wrapper.so
demo: env ## the whole product on loopback, with real sshd: a tour that proves each step
	@parts=$$($(PYTHON) -m tools.parts --bin $(OPENSSH)) && PATH="$$parts:$$PATH" exec $(BIN)/jitgate demo $(ARGS)

demo-dex: env env-openbao dex ## the same, with people from Dex and OpenLDAP, and their keys in OpenBao
	@parts=$$($(PYTHON) -m tools.parts --bin $(OPENSSH) $(OPENLDAP)) && dex=$$($(PYTHON) -m tools.peers dex) && \
	PATH="$$parts:$${dex%/*}:$$PATH" exec $(BIN)/jitgate demo --dex $(ARGS)

test: env-dev env-openbao parts dex ## all tests, with real programs
	@$(BIN)/pytest -m "not peers" -n $(WORKERS) --dist worksteal $(ARGS)

test-peers: env-dev parts ## the tests against a peer whose build takes minutes: Traefik, Debian 13 (as root)
	@$(PYTHON) -m tools.peers traefik >/dev/null
	@[ "$$(id -u)" != 0 ] || $(PYTHON) -m tools.roots trixie-sshd >/dev/null
	@$(BIN)/pytest -m peers $(ARGS)

check: env-dev ## lint, format, types, import rules, rules over the source tree, docs that drifted
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -m drift

bench: env-bench ## what it costs, each figure beside a peer in the same run (ARGS='--only issue --json FILE')
	@parts=$$($(PYTHON) -m tools.parts --bin $(OPENSSH)) && PATH="$$parts:$$PATH" $(BIN)/python -m tests.bench $(ARGS)

profile: env-bench ## where the service spends its time while it issues certificates (ARGS='--requests N')
	@$(BIN)/python -m tests.bench.profile $(ARGS)

mutate: env-dev ## changes of the deciding code that no test notices (ARGS='FILE... --minutes N')
	@$(PYTHON) -m tools.bootstrap mutate
	@$(BIN)/python -m tools.mutate $(ARGS)

PIN = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml $(ARGS)
# What is installed beside the above, and must agree with it.
GROUP_PIN = $(subst pyproject.toml,-c requirements/dev.txt,$(PIN))
pins: ## requirements/*.txt after a change of pyproject.toml (needs uv; newer versions: ARGS=--upgrade)
	@$(PIN) -o requirements/client.txt
	@$(PIN) --extra server --extra ldap --extra postgres --extra pkcs11 --extra age -o requirements/server.txt
	@$(PIN) --extra server --extra ldap --extra postgres --extra pkcs11 --extra age --group test --group check -o requirements/dev.txt
	@$(GROUP_PIN) --group bench -o requirements/bench.txt
	@$(subst pyproject.toml,--group openbao,$(PIN)) -o requirements/openbao.txt
	@$(GROUP_PIN) --group mutate -o requirements/mutate.txt
	@$(subst pyproject.toml,--group go,$(PIN)) -o requirements/go.txt

# --- set-up, which the targets above call ---

env: python
	@$(PYTHON) -m tools.bootstrap server

env-dev: python
	@$(PYTHON) -m tools.bootstrap dev

env-bench: env-dev env-openbao
	@$(PYTHON) -m tools.bootstrap bench

env-openbao: python
	@$(PYTHON) -m tools.bootstrap openbao

parts: python
	@$(PYTHON) -m tools.parts >/dev/null

dex: python
	@$(PYTHON) -m tools.peers dex >/dev/null

python:
	@command -v $(PYTHON) >/dev/null || { echo "make: error: there is no $(PYTHON)" >&2; \
	  echo "make: hint: install Python 3.11 or newer, or name one: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed" >&2; \
	  echo "make: hint: name a newer one: make PYTHON=python3.13" >&2; exit 1; }
