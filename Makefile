# pg_replica, as authors and packagers of PostgreSQL extensions expect it:
#   make                the extension, and the agent's program when its dependencies are there (npm ci)
#   make install        both, and the command pg_replica beside PostgreSQL's own programs
#   make installcheck   after make install: the extension's regression tests on a temporary server
# PG_CONFIG chooses the PostgreSQL installation, DESTDIR a staging root.
PG_CONFIG ?= pg_config
BINDIR = $(shell $(PG_CONFIG) --bindir)
AGENT_DIR = $(shell $(PG_CONFIG) --sharedir)/pg_replica
BUNDLE = dist/pg_replica.mjs
EXTENSION_MAKE = $(MAKE) -C extension PG_CONFIG="$(PG_CONFIG)"

# What an installation is made from; scripts/ compares it with the installed one.
BUILD_ID = LC_ALL=C cat extension/*.[ch] extension/pg_replica.control extension/pg_replica.sh extension/sql/*.sql \
  $(BUNDLE) | sha256sum | cut -d" " -f1

all: extension agent

extension:
	$(EXTENSION_MAKE) all

# npm decides what is out of date. Without node_modules (a C-only build, or a release with the program in it) nothing
# is to be done here; make install says so when the program is missing.
agent:
	@if [ -d node_modules ]; then npm run --silent build; fi

install: install-extension install-agent

install-extension:
	$(EXTENSION_MAKE) install DESTDIR="$(DESTDIR)"

install-agent:
	@if [ ! -f $(BUNDLE) ]; then \
	  echo "$(BUNDLE) is not there: run \"npm ci && make\" first" >&2; exit 1; fi
	install -d "$(DESTDIR)$(AGENT_DIR)" "$(DESTDIR)$(BINDIR)"
	install -m 644 $(BUNDLE) "$(DESTDIR)$(AGENT_DIR)/pg_replica.mjs"
	$(BUILD_ID) > "$(DESTDIR)$(AGENT_DIR)/build-id"
	chmod 644 "$(DESTDIR)$(AGENT_DIR)/build-id"
	sed 's|@AGENT_DIR@|$(AGENT_DIR)|' extension/pg_replica.sh > "$(DESTDIR)$(BINDIR)/pg_replica"
	chmod 755 "$(DESTDIR)$(BINDIR)/pg_replica"

uninstall:
	$(EXTENSION_MAKE) uninstall DESTDIR="$(DESTDIR)"
	rm -f "$(DESTDIR)$(AGENT_DIR)/pg_replica.mjs" "$(DESTDIR)$(AGENT_DIR)/build-id" "$(DESTDIR)$(BINDIR)/pg_replica"
	-rmdir "$(DESTDIR)$(AGENT_DIR)"

# What would be installed now, and what is.
build-id:
	@$(BUILD_ID)

installed-build-id:
	@cat "$(AGENT_DIR)/build-id" 2>/dev/null || echo none

installcheck:
	$(EXTENSION_MAKE) installcheck

clean:
	$(EXTENSION_MAKE) clean
	rm -rf build dist

.PHONY: all extension agent install install-extension install-agent uninstall build-id installed-build-id \
  installcheck clean
