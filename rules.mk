# How things are built; the Makefile says what. Files are found by name, so adding one needs no edit here:
#   lib/**/*.c, <program>/**/*.c   sources;  *_test.c beside them: one test program each;  tests/fuzz/*_fuzz.c: fuzz targets
#   <program>/main.c               makes the program;  tools/*.c: one tool each

VARIANT ?= release
OUT     := build/$(VARIANT)
GEN     := build/gen
BIN     := $(OUT)/bin

PROGRAMS := gateway svc-auth svc-customers svc-sales svc-audit

CC       ?= gcc
CSTD     := -std=gnu11 -D_GNU_SOURCE
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Werror
INC      := -Ilib -I. -I$(GEN)
PKGS     := libevent libevent_pthreads libevent_openssl nng libprotobuf-c jansson libpq libjwt openssl rdkafka libargon2 libcurl hiredis xlsxwriter libzip expat csv
# nng and libcsv of Debian 12 have no .pc file
PKGS_PC  := $(filter-out nng csv,$(PKGS))
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS_PC) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(PKGS_PC) 2>/dev/null) -lnng -lcsv -lpthread -lm
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
LINK_HARDEN := -pie -Wl,-z,relro,-z,now -Wl,--as-needed
# one commit, one binary, wherever it is built (tests/reproducible): no path of the build in it, no dates in archives
REPRO    := -ffile-prefix-map=$(CURDIR)=.

ifeq ($(VARIANT),asan)
OPT := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined -DCRM_TEST_BUILD
HARDEN := -fPIE
LDEXTRA := -fsanitize=address,undefined
else
OPT := -O2 -g
LDEXTRA :=
endif
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# when that was: of the commit, so that two builds of it are the same
BUILT := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),0)
CFLAGS = $(CSTD) $(OPT) $(HARDEN) $(REPRO) $(WARN) $(INC) $(PKG_CFLAGS) -MMD -MP

PROTOS    := $(wildcard proto/*.proto)
PB_C      := $(patsubst proto/%.proto,$(GEN)/proto/%.pb-c.c,$(PROTOS)) $(GEN)/google/protobuf/descriptor.pb-c.c
PB_O      := $(patsubst $(GEN)/%.c,$(OUT)/gen/%.o,$(PB_C))
DESC_NAMES := common auth customers sales audit events dialect
DESCS     := $(patsubst %,$(GEN)/descriptors/%.pb,$(DESC_NAMES))
DIALECT_TXT := $(wildcard gateway/dialects/*.textproto)
DIALECT_PB  := $(patsubst gateway/dialects/%.textproto,$(GEN)/dialects/%.pb,$(DIALECT_TXT))
FRAGMENTS := $(GEN)/fragments/.made

find_c = $(filter-out %_test.c %_fuzz.c,$(shell find $(1) -name '*.c' 2>/dev/null | LC_ALL=C sort))
LIB_C  := $(call find_c,lib)
LIB_O  := $(patsubst %.c,$(OUT)/%.o,$(LIB_C))
LIBCRM := $(OUT)/libcrm.a

TEST_C   := $(shell find lib $(PROGRAMS) -name '*_test.c' 2>/dev/null | LC_ALL=C sort)
TEST_BIN := $(patsubst %.c,$(OUT)/test/%,$(TEST_C))
TOOLS    := $(patsubst tools/%.c,$(BIN)/%,$(wildcard tools/*.c))
FUZZ_C   := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,build/fuzz/bin/%,$(FUZZ_C))

.SECONDARY:
.DELETE_ON_ERROR:

# -- contracts
$(GEN)/proto/%.pb-c.c: proto/%.proto $(PROTOS)
	@mkdir -p $(GEN)/proto
	@echo "  PROTOC-C $<"; protoc-c -Iproto -I/usr/include --c_out=$(GEN)/proto $<
# a method called Register would become a member with the name of a C keyword
	@sed -i 's/(\*register)/(*register_)/' $(GEN)/proto/$*.pb-c.h
$(GEN)/google/protobuf/descriptor.pb-c.c: /usr/include/google/protobuf/descriptor.proto
	@mkdir -p $(GEN)
	@echo "  PROTOC-C $<"; protoc-c -I/usr/include --c_out=$(GEN) $<
$(GEN)/descriptors/%.pb: proto/%.proto $(PROTOS)
	@mkdir -p $(GEN)/descriptors
	@protoc -Iproto --include_imports --include_source_info --descriptor_set_out=$@ $<
$(GEN)/dialects/%.pb: gateway/dialects/%.textproto proto/dialect.proto
	@mkdir -p $(GEN)/dialects
	@echo "  DIALECT $<"; protoc -Iproto --encode=crm.dialect.Dialect proto/dialect.proto < $< > $@ || { echo "in $<" >&2; rm -f $@; exit 1; }
# the parts of services, cut by a tool of ours; a folder each, and one file that says that they are there
$(FRAGMENTS): $(BIN)/dialect-split $(DESCS) $(DIALECT_PB)
	@rm -rf $(@D); mkdir -p $(@D)
	@$(BIN)/dialect-split $(GEN)/descriptors $(GEN)/dialects $(@D) && touch $@

# -- objects; other flags are other objects
$(OUT)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(CFLAGS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS)' > $@
# every header that one of them includes is generated too
$(OUT)/gen/%.o: $(GEN)/%.c $(OUT)/flags | $(PB_C)
	@mkdir -p $(@D)
	@$(CC) $(CSTD) $(OPT) $(HARDEN) $(REPRO) -w -I$(GEN) -I$(GEN)/proto -MMD -MP -c $< -o $@
$(OUT)/%.o: %.c $(OUT)/flags | $(PB_C)
	@mkdir -p $(@D)
	@echo "  CC $<"; $(CC) $(CFLAGS) -I$(GEN)/proto $(if $(filter %/version.c,$<),-DCRM_VERSION='"$(VERSION)"' -DCRM_REVISION='"$(REVISION)"' -DCRM_BUILT=$(BUILT)) -c $< -o $@
# the version is the text of a file that changes when it does
$(GEN)/version: FORCE
	@mkdir -p $(GEN); echo '$(VERSION) $(REVISION) $(BUILT)' | cmp -s - $@ || echo '$(VERSION) $(REVISION) $(BUILT)' > $@
$(OUT)/lib/base/version.o: $(GEN)/version
# phony: .SECONDARY makes a rule without a recipe one that is never needed
.PHONY: FORCE
$(LIBCRM): $(LIB_O) $(PB_O)
	@rm -f $@; ar rcsD $@ $^

# -- programs: main.o + an archive of the rest, so tests link the rest
define program_rules
$(1)_C := $$(call find_c,$(1))
$(1)_O := $$(patsubst %.c,$(OUT)/%.o,$$(filter-out $(1)/main.c,$$($(1)_C)))
$(OUT)/lib$(1).a: $$($(1)_O)
	@rm -f $$@; ar rcsD $$@ $$^
$(BIN)/$(1): $(OUT)/$(1)/main.o $(OUT)/lib$(1).a $(LIBCRM)
	@mkdir -p $$(@D)
	@echo "  LD $$@"; $$(CC) $$(LINK_HARDEN) $$(LDEXTRA) -o $$@ $$^ $$(PKG_LIBS)
$(OUT)/test/$(1)/%: $(OUT)/$(1)/%.o $(OUT)/lib$(1).a $(LIBCRM)
	@mkdir -p $$(@D)
	@echo "  LD $$@"; $$(CC) $$(LINK_HARDEN) $$(LDEXTRA) -o $$@ $$^ $$(PKG_LIBS) -lcmocka
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rules,$(p))))

$(OUT)/test/lib/%: $(OUT)/lib/%.o $(LIBCRM)
	@mkdir -p $(@D)
	@echo "  LD $@"; $(CC) $(LINK_HARDEN) $(LDEXTRA) -o $@ $^ $(PKG_LIBS) -lcmocka
$(BIN)/%: $(OUT)/tools/%.o $(OUT)/libgateway.a $(LIBCRM)
	@mkdir -p $(@D)
	@echo "  LD $@"; $(CC) $(LINK_HARDEN) $(LDEXTRA) -o $@ $^ $(PKG_LIBS)

# -- fuzz targets: clang, everything instrumented
FUZZ_FLAGS := $(CSTD) -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -w $(INC) -I$(GEN)/proto -DCRM_TEST_BUILD
build/fuzz/%.o: %.c | $(PB_C)
	@mkdir -p $(@D)
	@clang $(FUZZ_FLAGS) $(PKG_CFLAGS) -DCRM_VERSION='"fuzz"' -DCRM_REVISION='"fuzz"' -DCRM_BUILT=0 -MMD -MP -c $< -o $@
build/fuzz/gen/%.o: $(GEN)/%.c
	@mkdir -p $(@D)
	@clang $(FUZZ_FLAGS) -I$(GEN) -MMD -MP -c $< -o $@
FUZZ_LIB_O = $(patsubst %.c,build/fuzz/%.o,$(LIB_C) $(filter-out gateway/main.c,$(gateway_C))) $(patsubst $(GEN)/%.c,build/fuzz/gen/%.o,$(PB_C))
build/fuzz/libfuzz.a: $(FUZZ_LIB_O)
	@rm -f $@; ar rcs $@ $^
build/fuzz/bin/%: build/fuzz/tests/fuzz/%.o build/fuzz/libfuzz.a
	@mkdir -p $(@D)
	@echo "  FUZZ $@"; clang -fsanitize=fuzzer,address,undefined -o $@ $^ $(PKG_LIBS)

-include $(shell find build -type f -name '*.d' 2>/dev/null)
