# Every page and picture that holds simulated or measured numbers, made again in order.
#
#   make results               at medium scale: within three hours on two cores
#   make results SCALE=short   fewer seeds and shorter episodes, in minutes; every page says which
#   make results SCALE=full    more of both: a night and more
#   make results ONLY="benchmark figures"    SKIP="physics"    some steps, all but some
#   make results EVERYTHING=yes  calibrations and the agents before all else
#   make results DATA=DIR      the measured data (../shared/data where it is there)
#   make stale                 which pages were made by other code than that at hand
#
# Minutes on two cores: medium as measured beside the tests, short and full estimated.
#                short  medium  full           short  medium  full              short  medium  full
#   physics          2       2     4   figures      3       7    25   knob_study      1       3    10
#   cap_uncertainty  1       1    10   headroom     1       5    40   shift_study     1      10    30
#   rivals           1       3    15   twin_errors  1       8    60   others          2       3     5
#   benchmark        6      33   600
#
# Killed or failed, `make results` goes on where it was: a step that is done is not made again while its
# code, choices and data are the same, and the commands keep their finished runs. What a step printed is
# in outputs/results/SCALE/STEP.log, how long it took in STEP.seconds and on the pages that it made.

SCALE ?= medium
DATA ?= $(wildcard ../shared/data)
RESULTS := outputs/results/$(SCALE)
PY := $(BIN)/python

ifeq ($(filter $(SCALE),short medium full),)
$(error SCALE=$(SCALE): there are short, medium and full)
endif

# What a scale means: $(call by_scale,SHORT,MEDIUM,FULL)
by_scale = $(if $(filter short,$(SCALE)),$(1),$(if $(filter medium,$(SCALE)),$(2),$(3)))

AZURE := $(wildcard $(DATA)/azure-llm-2023/AzureLLMInferenceTrace_conv.csv)
# Without the recording the suite's scenario that replays it is left out.
RECORDED := $(if $(AZURE),,suite.only=[$(shell \
    sed -n 's/^  \([a-z0-9_]*\):$$/\1/p' conf/suite/test.yaml | grep -v azure | paste -sd,)])

STEPS := traces drawings physics cap_uncertainty rivals benchmark comparison figures headroom twin_errors \
    knob_study shift_study plans speed write_up
# These replace what all others start from, conf/calibration and agents/bundles, and are made when they
# are named: make results ONLY="calibrations agent", or EVERYTHING=yes.
ORIGINS := calibrations agent
NEED_DATA := calibrations traces physics
ONLY ?= $(if $(EVERYTHING),$(ORIGINS)) $(STEPS)
CHOSEN := $(filter-out $(SKIP),$(filter $(ONLY),$(ORIGINS) $(STEPS)))
ifneq ($(filter-out $(ORIGINS) $(STEPS),$(ONLY) $(SKIP)),)
$(error there is no step $(filter-out $(ORIGINS) $(STEPS),$(ONLY) $(SKIP)); there are $(ORIGINS) $(STEPS))
endif

# A step: STEP.command its module, STEP.words its command line, STEP.data what it reads besides,
# STEP.pages the pages that it makes, STEP.fresh folders that it begins without, STEP.stale those that
# it does not go on from when code or words have changed.

H100 := docs/measurements/h100
FITTED := $(DATA):$(H100)
MEASURED := $(and $(DATA),$(DATA) $(H100))
calibrations.command := experiments.calibrate
calibrations.words = gpu=h100_sxm data=$(FITTED) install=true hydra.run.dir=$(RESULTS)/calibrations/h100_sxm
calibrations.more = for gpu in a100_sxm4_80gb a100_sxm4_40gb b200 rtx_pro_6000; do \
    $(PY) -m experiments.calibrate gpu=$$gpu data=$(FITTED) install=true \
    hydra.run.dir=$(RESULTS)/calibrations/$$gpu || exit 1; done && \
    $(PY) -m experiments.calibrate gpu=h200_sxm start=h100_sxm data=$(FITTED) install=true \
    hydra.run.dir=$(RESULTS)/calibrations/h200_sxm
calibrations.data = $(MEASURED)

agent.command := experiments.imitate
agent.words = hydra.run.dir=$(RESULTS)/agent
agent.fresh = $(RESULTS)/agent $(RESULTS)/agent_clock
agent.more = cp -r $(RESULTS)/agent/bundle/. agents/bundles/ppo/ && \
    $(PY) -m experiments.imitate agent=ppo_clock seed=1 \
    hydra.run.dir=$(RESULTS)/agent_clock && cp -r $(RESULTS)/agent_clock/bundle/. agents/bundles/ppo_clock/

traces.command := experiments.download
traces.words = azure_conv --url file://$(abspath $(AZURE))
traces.data = $(AZURE)

drawings.command := examples.plot_workloads
drawings.words =
drawings.more = $(PY) -m examples.plot_qos

physics.command := experiments.physics
physics.words = data=$(FITTED) page=docs/validation.md hydra.run.dir=$(RESULTS)/physics \
    $(call by_scale,ablations=false,ablations=false,)
physics.data = $(MEASURED)
physics.pages := docs/validation.md

cap_uncertainty.command := experiments.cap_uncertainty
cap_uncertainty.words = controllers=[static,pals,governor] page=docs/validation.md \
    hydra.run.dir=$(RESULTS)/cap_uncertainty \
    $(call by_scale,seeds=2 points=3 duration=120,seeds=2 points=6 duration=300,seeds=3 points=8 duration=600)
cap_uncertainty.pages := docs/validation.md

# The fronts of tuned rivals, which the benchmark compares; without them it has those of its sweeps.
rivals.command := experiments.tune
rivals.words = test=false hydra.run.dir=$(RESULTS)/rivals \
    $(call by_scale,hours=2 startup=3 points=3,hours=6 points=4,)
FRONTS = $(shell ls $(RESULTS)/rivals/fronts.yaml 2>/dev/null)
# ppo is shown latency SLOs and not, which no front counts and all rivals give up; ppo_keeps_slos always is.
ASKED = violation_limit: [0.002$(comma)0.005$(comma)0.01$(comma)0.02$(comma)0.05$(comma)0.1]
CLOCK = action: {base: grid$(comma) sm_clock: true$(comma) sm_clock_levels: 12}
PRICES = cost.violation_price: [$(call by_scale,0.3,0.3$(comma)1,0.1$(comma)0.3$(comma)1$(comma)3)]
BOUNDS = cost.violation_price: [$(call by_scale,0.3,0.1$(comma)0.3$(comma)1,0.1$(comma)0.3$(comma)1$(comma)3)]
# With the clock there are three times as many plans: one point of each planner is enough at smaller
# scales, and mpc finds better ones among fewer batch limits (held-out scenarios).
FEW = cost.violation_price: [$(call by_scale,0.3,0.3,0.1$(comma)0.3$(comma)1$(comma)3)]
SWEEPS = [{ppo: {latency_slos: [true$(comma)false]$(comma) $(ASKED)}}$(comma) {ppo_keeps_slos: {controller: ppo$(comma) $(ASKED)}}$(comma) \
    {ppo_clock: {latency_slos: [true$(comma)false]$(comma) $(ASKED)$(comma) $(CLOCK)}}$(comma) \
    {mpc: {$(PRICES)}}$(comma) {mpc_clock: {controller: mpc$(comma) search.batches: [3]$(comma) $(FEW)$(comma) $(CLOCK)}}$(comma) \
    {clairvoyant: {$(BOUNDS)}}$(comma) {clairvoyant_clock: {controller: clairvoyant$(comma) $(FEW)$(comma) $(CLOCK)}}]
rivals.stale = $(RESULTS)/rivals

benchmark.command := experiments.benchmark
benchmark.words = report=docs $(RECORDED) hydra.run.dir=$(RESULTS)/benchmark \
    fronts=[$(FRONTS)] sweeps='$(strip $(SWEEPS))' \
    $(call by_scale,seeds=2 duration=120,seeds=2 duration=300,)
benchmark.pages := docs/results.md
benchmark.data = $(FRONTS)

comparison.command := experiments.compare
comparison.words = controllers=[static,adaptive_batch,adaptive_cap,pals,governor,oracle] \
    hydra.run.dir=$(RESULTS)/comparison $(call by_scale,seeds=2 duration=120,,)
comparison.more = cp $(RESULTS)/comparison/comparison.png docs/images/comparison.png

figures.command := experiments.figures
figures.words = figure=all page=docs/reproduction.md hydra.run.dir=$(RESULTS)/figures \
    $(call by_scale,most_seeds=2 longest_s=120,most_seeds=2 longest_s=600,)
figures.pages := docs/reproduction.md

# One setting of each kind.
SOME = steady_70$(comma)bursty_60$(comma)moving_target$(comma)saturated_75$(comma)tpot_slo_overload$(comma)kv_pressure
headroom.command := experiments.headroom
headroom.words = page=docs/twin.md controllers=[pals,governor,ppo] hydra.run.dir=$(RESULTS)/headroom \
    $(call by_scale,\
        seeds=1 duration=60 prices=[0.3] generations=[1] suite.only=[steady_70],\
        seeds=1 duration=150 prices=[1] generations=[2] horizons_s=[10] phases=[3] \
        suite.only=[$(SOME)$(if $(AZURE),$(comma)azure_trace_70)],$(RECORDED))
headroom.pages := docs/twin.md

twin_errors.command := experiments.twin_errors
twin_errors.words = page=docs/twin.md controllers=[mpc,pals,ppo] hydra.run.dir=$(RESULTS)/twin_errors \
    $(call by_scale,\
        seeds=1 duration=60 suite.only=[steady_70],\
        seeds=1 duration=180 suite.only=[steady_70$(comma)bursty_60$(comma)budget_steps],$(RECORDED))
twin_errors.pages := docs/twin.md

knob_study.command := experiments.knob_study
knob_study.words = page=docs/robustness.md hydra.run.dir=$(RESULTS)/knob_study \
    $(call by_scale,seeds=1 duration=60 suite.only=[steady_70],seeds=1 duration=180,)
knob_study.pages := docs/robustness.md

shift_study.command := experiments.shift_study
shift_study.words = page=docs/robustness.md hydra.run.dir=$(RESULTS)/shift_study \
    $(call by_scale,seeds=1 duration=60 suite.only=[steady_70],seeds=1 duration=180,)
shift_study.pages := docs/robustness.md

plans.command := experiments.show_plan
plans.words = workload=bursty_strong workload.load=0.6 begin=35 images=docs/images \
    hydra.run.dir=$(RESULTS)/plans

speed.command := benchmarks.simulator
speed.words = --page docs/performance.md --json $(RESULTS)/speed.json \
    $(call by_scale,--repeats 2 --steps 2000,--repeats 5,)
speed.pages := docs/performance.md

write_up.command := experiments.write_up
write_up.words = $(RESULTS)
write_up.data = $(shell ls $(RESULTS)/benchmark/results.json $(RESULTS)/figures/claims.json \
    $(RESULTS)/figures/mechanisms.csv docs/validation.md docs/twin.md docs/robustness.md \
    docs/performance.md 2>/dev/null)
write_up.pages := docs/report.md

comma := ,

.PHONY: results stale FORCE
.SECONDARY:
.NOTPARALLEL:

# A step whose page was changed back is made again.
results: venv
	@for step in $$($(PY) -m experiments.pages unmade $(foreach s,$(CHOSEN),$(if $($(s).pages),$(s):$($(s).command):$($(s).pages)))); do \
	    rm -f $(RESULTS)/$$step.done; done
	@+$(MAKE) --no-print-directory --keep-going -j1 $(CHOSEN:%=$(RESULTS)/%.done) && failed= || failed=1; \
	$(PY) -m experiments.pages; \
	if [ -n "$$failed" ]; then echo "Some steps failed: see $(RESULTS)/*.log, then call make results again."; exit 1; fi

stale: venv
	@$(PY) -m experiments.pages --strict

# The key says what a step's results depend on; its time changes only when it does.
$(RESULTS)/%.key: FORCE
	@mkdir -p $(RESULTS)
	@$(PY) -m experiments.pages key $($*.command) "$(strip $($*.words))" $(if $($*.data),--data $($*.data)) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else $(if $($*.stale),rm -rf $($*.stale);) mv $@.new $@; fi

$(RESULTS)/%.done: $(RESULTS)/%.key
	@$(if $(and $(filter $*,$(NEED_DATA)),$(if $(strip $($*.data)),,none)), \
	    echo "$*: skipped: its measured data are not here (make results DATA=DIR; docs/data.md)"; exit 0;) \
	echo "$*: $($*.command), log in $(RESULTS)/$*.log"; \
	TIMEFORMAT="%0R s (%0U s of processor time)"; \
	$(if $($*.fresh),rm -rf $($*.fresh);) \
	if { time { $(PY) -m $($*.command) $($*.words) $(if $($*.more),&& $($*.more)); } >$(RESULTS)/$*.log 2>&1; } 2>$(RESULTS)/$*.seconds; then :; \
	else echo "$*: failed"; tail -n 5 $(RESULTS)/$*.log; exit 1; fi; \
	took="$$(tail -n 1 $(RESULTS)/$*.seconds)"; \
	$(if $($*.pages),$(PY) -m experiments.pages stamp $* $($*.command) $($*.pages) --key $< \
	    --remark "at $(SCALE) scale in $$took" &&) touch $@ && echo "$*: done in $$took"
