#!/usr/bin/env bash
# steps.sh - the steps of tests/run that are more than one command: tests/steps.sh STEP [ARGUMENT...].
# A step of its own process can be stopped when it takes too long.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
jobs=$(nproc)

configure_and_build() {
    local options=(-DKV_TESTS=ON)
    local preset=${1%-client}
    case "$1" in
    clang) options+=(-G Ninja -S . -B build/clang -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo) ;;
    *) options+=(--preset "$preset") ;;
    esac
    local targets=(all) file
    if [ "$1" = fuzz ]; then
        # Only what is fuzzed: the unit tests of this preset are those of asan.
        targets=()
        for file in tests/fuzz/fuzz_*.c; do
            file=$(basename "$file" .c)
            case "$file" in fuzz_main | fuzz_exit) ;; *) targets+=("$file") ;; esac
        done
    fi
    if [ "$1" != "$preset" ]; then
        # Only the tests of libkvclient.
        targets=(test_abi)
        for file in tests/client/test_kv*.c; do
            file=$(basename "$file" .c)
            [ "$file" = test_kvctl ] || targets+=("$file")
        done
    fi
    cmake "${options[@]}" && cmake --build "build/$preset" --parallel "$jobs" --target "${targets[@]}"
}

# ctest's closing words as a count; of all tests, or of those whose names match.
count_ctest() {
    local output status=0 total bad
    output=$(ctest --no-tests=error --output-on-failure --parallel "$jobs" --test-dir "$1" -R "${2:-.}" 2>&1) || status=$?
    printf '%s\n' "$output"
    read -r bad total < <(sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+).*/\1 \2/p' <<<"$output")
    [ -n "${total:-}" ] || { echo "ctest did not say how many tests ran" && return 1; }
    printf '%d passed, %d failed\n' $((total - bad)) "$bad"
    return "$status"
}

# The tests that usually try a sample of very many cases, with all of them.
every_case() {
    local program ok=0 bad=0
    for program in "$1"/bin/test_every_*; do
        echo "$program"
        if KV_TEST_LONG=1 "$program"; then ok=$((ok + 1)); else bad=$((bad + 1)); fi
    done
    printf '%d passed, %d failed\n' "$ok" "$bad"
    [ "$bad" = 0 ] && [ "$ok" -gt 0 ]
}

sources() { git ls-files --cached --others --exclude-standard -- '*.c' '*.h'; }

check_format() {
    local list
    list=$(sources | while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
    [ -n "$list" ] || { echo 'no sources found' && return 1; }
    xargs -n 40 -P "$jobs" clang-format --dry-run -Werror <<<"$list"
}

# docs/commands.md is made of the table of commands: nobody writes it by hand.
check_commands_page() {
    build/release/bin/kvnode --commands | diff -u docs/commands.md - && return 0
    echo "docs/commands.md is not what the commands are: build/release/bin/kvnode --commands >docs/commands.md"
    return 1
}

check_scripts() {
    local file status=0
    for file in deploy/up deploy/down deploy/common.sh deploy/deps tests/run .ci/run; do
        bash -n "$file" || status=1
    done
    dash -n deploy/deps || status=1
    python3 - <<'END' || status=1
import ast, subprocess, sys
names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True)
for name in names.stdout.split():
    ast.parse(open(name, encoding="utf-8").read(), name)
END
    return $status
}

check_lint() {
    local files output status=0
    files=$(git ls-files --cached --others --exclude-standard -- 'storage/*.c' 'raft/*.c' 'node/*.c' 'client/*.c')
    output=$(xargs -n 4 -P "$jobs" clang-tidy --quiet -p build/clang --warnings-as-errors='*' <<<"$files" 2>&1) || status=1
    printf '%s\n' "$output"
    # Once more without the explanations, since the end of a log is what is shown.
    if [ $status != 0 ]; then grep -E '(warning|error):' <<<"$output" | sort -u; fi
    return $status
}

run_sim() {
    local seeds=$1
    # The same seeds every time, so that a green commit is green for everybody; the long run adds as many that nobody saw.
    local fresh=$((1000000 + $(date +%s) % 100000000)) output status=0 ok=0 bad=0 line range first count o b
    local ranges=("1 $seeds")
    [ "$seeds" -le 1000 ] || ranges+=("$fresh $seeds")
    for range in "${ranges[@]}"; do
        read -r first count <<<"$range"
        output=$(build/release/bin/sim --seed "$first" --seeds "$count" 2>&1) || status=$?
        printf '%s\n' "$output"
        line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' <<<"$output" | tail -n 1)
        [ -n "$line" ] || { echo "sim --seed $first --seeds $count ended without a count" && return 1; }
        read -r o _ b _ <<<"${line//,/}"
        ok=$((ok + o)) bad=$((bad + b))
    done
    # A run is a function of its seed: twice the same seed, twice the same trace.
    if build/release/bin/sim --seed 1 --seeds 5 --twice; then ok=$((ok + 1)); else bad=$((bad + 1)) status=1; fi
    while read -r first _; do
        case "$first" in '' | '#'*) continue ;; esac
        if build/release/bin/sim --seed "$first" --seeds 1; then ok=$((ok + 1)); else bad=$((bad + 1)); fi
    done < <(cat tests/sim/seeds.txt 2>/dev/null)
    printf '%d passed, %d failed\n' "$ok" "$bad"
    return $status
}

# Each target starts from its kept inputs; what it finds new stays in build/, a failing input is shown.
run_fuzz() {
    local seconds=$1 ok=0 bad=0 target name corpus kept
    for target in build/fuzz/bin/fuzz_*; do
        [ -x "$target" ] || continue
        name=${target##*/fuzz_}
        corpus=build/fuzz/corpus/$name
        mkdir -p "$corpus" build/fuzz/failures
        kept=()
        [ ! -d "tests/fuzz/corpus/$name" ] || kept=("tests/fuzz/corpus/$name")
        if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="build/fuzz/failures/$name-" "$corpus" "${kept[@]}"; then
            ok=$((ok + 1))
        else
            echo "fuzz_$name failed; the input is in build/fuzz/failures/"
            bad=$((bad + 1))
        fi
    done
    [ $((ok + bad)) -gt 0 ] || { echo 'no fuzz target was built' && return 1; }
    printf '%d passed, %d failed\n' "$ok" "$bad"
    [ "$bad" = 0 ]
}

"$@"
