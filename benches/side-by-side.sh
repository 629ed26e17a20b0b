#!/bin/bash
# Meldis beside redis-server, in one run on one machine: CPU per operation, a pair's CPU, visibility, join, memory.
#
# usage: benches/side-by-side.sh [lone] [disk] [pair] [lag] [join] [memory]     (all of them if none is named)
# environment: MELDIS    the server               (target/release/meldis-server)
#              HELPER    benches/visibility.rs    (the newest of target/release/deps/visibility-*)
#              ROUNDS    alternating rounds, median taken (5)
#              OPS       operations per round with -P 16; a quarter of that with -P 1 (1000000)
#              KEYS      keys for join and memory (1000000)
#
# CPU is user plus system time of the server's process, so a busy machine disturbs it less than it does throughput;
# A B A B rounds share what disturbance there is. Needs redis-server, redis-cli, redis-benchmark and awk.
# Every server listens on a free loopback port, keeps its files in one temporary directory, and is ended with the script.
set -u

cd "$(dirname "$0")/.." || exit
MELDIS=${MELDIS:-target/release/meldis-server}
HELPER=${HELPER:-$(ls -t target/release/deps/visibility-* 2>/dev/null | grep -v '\.d$' | head -1)}
ROUNDS=${ROUNDS:-5}
OPS=${OPS:-1000000}
KEYS=${KEYS:-1000000}
CLIENT_SECONDS_MAX=180

dir=$(mktemp -d)
declare -A pid port
trap 'end_all; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

fail() { echo "$*" >&2; exit 1; }

end() { # NAME...
    local name
    for name in "$@"; do
        [ -n "${pid[$name]:-}" ] || continue
        kill "${pid[$name]}" 2>/dev/null
        for _ in {1..50}; do kill -0 "${pid[$name]}" 2>/dev/null || break; sleep 0.1; done
        kill -9 "${pid[$name]}" 2>/dev/null
        wait "${pid[$name]}" 2>/dev/null
        unset "pid[$name]"
    done
}

end_all() { end "${!pid[@]}"; }

choose_port() { # NAME
    local candidate
    for _ in {1..100}; do
        candidate=$((20000 + RANDOM % 12000)) # Below those that connections are given.
        (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null && continue
        port[$1]=$candidate
        return
    done
    fail "no free port"
}

launch() { # NAME COMMAND...: started in a directory of its own, which says nothing about being ready
    local name=$1
    shift
    mkdir -p "$dir/$name"
    "$@" --dir "$dir/$name" >"$dir/$name.log" 2>&1 &
    pid[$name]=$!
}

await() { # NAME: until it answers
    for _ in {1..100}; do
        kill -0 "${pid[$1]}" 2>/dev/null || fail "$1 has ended: $(tail -3 "$dir/$1.log")"
        [ "$(ask "$1" ping)" = PONG ] && return
        sleep 0.1
    done
    fail "$1 does not answer"
}

redis() { choose_port "$1"; launch "$1" redis-server --port "${port[$1]}" --save '' --appendonly no; await "$1"; }
meldis() { choose_port "$1"; launch "$1" "$MELDIS" --port "${port[$1]}"; await "$1"; }
partner() { # NAME OF: its port is chosen already
    launch "$1" "$MELDIS" --port "${port[$1]}" --active-replica yes --multi-master yes --replicaof 127.0.0.1 "${port[$2]}"
}
pair() { choose_port "$1"; choose_port "$2"; partner "$1" "$2"; partner "$2" "$1"; await "$1"; await "$2"; await_link "$1" "$2"; }
await_link() { # ONE OTHER: until a write of one is seen on the other, both ways
    local from to
    for from in "$1 $2" "$2 $1"; do
        to=${from#* } from=${from% *}
        for _ in {1..100}; do
            ask "$from" set linked "$from" >/dev/null
            sleep 0.05
            [ "$(ask "$to" get linked)" = "$from" ] && continue 2
        done
        fail "$from and $to do not link: $(tail -3 "$dir/$from.log")"
    done
}

ask() { local name=$1; shift; timeout 5 redis-cli -p "${port[$name]}" "$@" 2>/dev/null; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"; }
memory_kb() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/${pid[$1]}/status"; }
median() { sort -n | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
row() { printf '%-26s %12s %12s %8s   %s\n' "$@"; }

load() { # NAME TEST PIPELINE OPERATIONS
    timeout $CLIENT_SECONDS_MAX redis-benchmark -p "${port[$1]}" -c 50 -d 64 -r 1000000 -n "$4" -P "$3" -t "$2" -q \
        >"$dir/client.log" 2>&1 || fail "redis-benchmark on $1: $(tail -1 "$dir/client.log")"
}

us_per_op() { # TEST PIPELINE NAME...: load on the first, CPU of all
    local operations=$OPS before=0 after=0 name
    [ "$2" = 1 ] && operations=$((OPS / 4))
    local test=$1 pipeline=$2
    shift 2
    for name in "$@"; do before=$((before + $(cpu_ticks "$name"))); done
    load "$1" "$test" "$pipeline" $operations
    [ $# -gt 1 ] && sleep 1 # What is still under way to the partner counts.
    for name in "$@"; do after=$((after + $(cpu_ticks "$name"))); done
    awk -v ticks=$((after - before)) -v n=$operations -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.3f\n", ticks * 1e6 / hz / n }'
}

compare() { # LABEL TARGET TEST PIPELINE REDIS MELDIS...
    local label=$1 target=$2 test=$3 pipeline=$4 one=$5
    shift 5
    : >"$dir/one"; : >"$dir/other"
    for ((round = 0; round < ROUNDS; round++)); do
        us_per_op "$test" "$pipeline" "$one" >>"$dir/one" || exit
        us_per_op "$test" "$pipeline" "$@" >>"$dir/other" || exit
    done
    local theirs ours
    theirs=$(median <"$dir/one") ours=$(median <"$dir/other")
    row "$label" "$theirs us" "$ours us" "$(ratio "$ours" "$theirs")" "at most $target"
}

fill() { # NAME: KEYS keys of 16 bytes with values of 64
    awk -v n="$KEYS" 'BEGIN {
        value = sprintf("%064d", 7)
        for (i = 0; i < n; i++) printf "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%s\r\n", i, value
    }' | timeout $CLIENT_SECONDS_MAX redis-cli -p "${port[$1]}" --pipe >"$dir/client.log" 2>&1 ||
        fail "filling $1: $(tail -1 "$dir/client.log")"
}

lone() {
    redis redis
    meldis meldis
    load redis set 16 "$OPS"
    load meldis set 16 "$OPS"
    compare "SET -P 16, CPU/op" 1.00 set 16 redis meldis
    compare "GET -P 16, CPU/op" 1.00 get 16 redis meldis
    compare "SET -P 1, CPU/op" 1.10 set 1 redis meldis
    compare "GET -P 1, CPU/op" 1.10 get 1 redis meldis
    end redis meldis
}

disk() { # No target is set: what Redis has its AOF cost is what ours is held beside.
    local fsync
    for fsync in everysec always; do
        choose_port redis
        launch redis redis-server --port "${port[redis]}" --save '' --appendonly yes --appendfsync $fsync
        choose_port meldis
        launch meldis "$MELDIS" --port "${port[meldis]}" --appendonly yes --appendfsync $fsync
        await redis
        await meldis
        load redis set 16 "$OPS"
        load meldis set 16 "$OPS"
        compare "$fsync SET -P 16, CPU/op" Redis set 16 redis meldis
        compare "$fsync SET -P 1, CPU/op" Redis set 1 redis meldis
        end redis meldis
    done
}

pair_load() {
    redis redis
    pair a b
    load redis set 16 "$OPS"
    load a set 16 "$OPS"
    compare "pair SET -P 16, CPU/op" 2.50 set 16 redis a b
    end redis a b
}

needs_helper() { [ -x "$HELPER" ] || fail "the helper is missing: cargo bench --bench visibility"; }

lag() {
    local p50 p99
    needs_helper
    pair a b
    read -r p50 p99 < <(timeout 120 "$HELPER" lag "127.0.0.1:${port[a]}" "127.0.0.1:${port[b]}" 2000)
    row "visible on partner, p50" - "${p50:-none} us" - "below 300 us"
    row "visible on partner, p99" - "${p99:-none} us" - "below 2000 us"
    end a b
}

join() {
    local seconds slowest before peak
    needs_helper
    choose_port a
    choose_port b
    partner a b
    await a
    fill a
    sleep 1
    echo 5 >"/proc/${pid[a]}/clear_refs" # The peak starts anew.
    before=$(memory_kb a VmRSS)
    partner b a
    read -r seconds slowest < <(timeout 90 "$HELPER" join "127.0.0.1:${port[a]}" "127.0.0.1:${port[b]}")
    peak=$(memory_kb a VmHWM)
    row "join of $KEYS keys" - "${seconds:-none} s" - "at most 4 s"
    row "giver's memory, growth" - "$(awk -v a="$before" -v b="$peak" 'BEGIN { printf "%.1f", (b / a - 1) * 100 }') %" - "at most 5 %"
    row "giver's slowest SET" - "${slowest:-none} us" - "below 10000 us"
    end a b
}

bytes_per_key() { # NAME
    local before after
    before=$(memory_kb "$1" VmRSS)
    fill "$1"
    after=$(memory_kb "$1" VmRSS)
    awk -v kb=$((after - before)) -v n="$KEYS" 'BEGIN { printf "%.1f", kb * 1024 / n }'
}

memory() {
    local theirs ours
    redis redis
    meldis meldis
    theirs=$(bytes_per_key redis) && ours=$(bytes_per_key meldis) || exit
    row "memory per key of 16 + 64" "$theirs B" "$ours B" "$(ratio "$ours" "$theirs")" "at most 1.10"
    end redis meldis
}

for tool in redis-server redis-cli redis-benchmark awk; do
    command -v $tool >/dev/null || fail "$tool is not installed"
done
[ -x "$MELDIS" ] || fail "$MELDIS is missing: cargo build --release"
row "$(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)" redis-server meldis ratio target
for part in ${*:-lone disk pair lag join memory}; do
    case $part in
        lone | disk | lag | join | memory) "$part" ;;
        pair) pair_load ;;
        *) fail "no such part: $part" ;;
    esac
done
