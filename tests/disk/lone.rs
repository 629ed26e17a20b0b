//! One node, killed and started again.

use std::collections::BTreeSet;

use crate::harness::{Server, Suite, until};
use crate::place::{ALWAYS, EVERYSEC, digests};
use crate::record::{Record, Writer, check_all};
use crate::seen::full;

#[test]
fn a_killed_node_comes_back_with_all_that_it_acknowledged() {
    let mut suite = Suite::new("disk lone: kills under load");
    let kills = if full() { 100 } else { 20 };
    let mut commands = 0;
    for args in [ALWAYS, EVERYSEC] {
        let mut server = Server::start(args);
        let mut records: Vec<Record> = Vec::new();
        for kill in 0..kills {
            let writers = Writer::several(&server, &kill.to_string());
            writers.iter().for_each(|writer| writer.has_written(if kill == 0 { 40 } else { 4 }));
            server.kill();
            let ended: Vec<Record> = writers.into_iter().map(Writer::end).collect();
            server.launch().unwrap();
            commands += check_all(&ended, &server);
            records.extend(ended);
            suite.add(1);
        }
        // What was there after one kill is there after all of them.
        check_all(&records, &server);
        let before = digests(&server);
        server.kill();
        server.launch().unwrap();
        assert_eq!(digests(&server), before, "killed when quiet");
        server.restart();
        assert_eq!(digests(&server), before, "stopped");
        assert!(!server.log().contains("is damaged"), "{}", server.log_tail());
    }
    suite.note(&format!("{commands} commands kept"));
}

#[test]
fn a_planned_stop_under_load_keeps_all_that_was_acknowledged() {
    let mut suite = Suite::new("disk lone: stops under load");
    for fsync in ["always", "everysec", "no"] {
        let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", fsync]);
        let writers = Writer::several(&server, "stop");
        writers.iter().for_each(|writer| writer.has_written(4));
        assert!(server.stop().success(), "{}", server.log_tail());
        let records: Vec<Record> = writers.into_iter().map(Writer::end).collect();
        server.launch().unwrap();
        suite.add(check_all(&records, &server));
        assert!(!server.log().contains("cut off"), "a stop leaves whole files: {}", server.log_tail());
    }
}

#[test]
fn what_a_waiting_client_was_given_stays_taken() {
    let mut suite = Suite::new("disk lone: waiting clients");
    for (round, args) in [ALWAYS, EVERYSEC, ALWAYS, EVERYSEC].into_iter().enumerate() {
        let mut server = Server::start(args);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let mut client = server.client();
                std::thread::spawn(move || {
                    let mut taken = Vec::new();
                    while let Ok(reply) = client.try_cmd(&["BLPOP", "l", "0"]) {
                        taken.push(reply.texts()[1].parse::<u64>().unwrap());
                    }
                    taken
                })
            })
            .collect();
        let mut client = server.client();
        let pushing = std::thread::spawn(move || {
            let mut pushed = 0;
            while client.try_cmd(&["RPUSH", "l", &(pushed + 1).to_string()]).is_ok() {
                pushed += 1;
            }
            pushed
        });
        let mut other = server.client();
        until("clients are served", || {
            other.info("commandstats", "cmdstat_rpush").is_some_and(|line| {
                let calls = line.split([',', '=']).nth(1).unwrap();
                calls.parse::<u64>().unwrap() > 200
            })
        });
        server.kill();
        let taken: Vec<u64> = waiting.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let pushed = pushing.join().unwrap();
        server.launch().unwrap();
        let left = server.client().run("LRANGE l 0 -1").texts();
        let left: BTreeSet<u64> = left.iter().map(|item| item.parse().unwrap()).collect();
        let given: BTreeSet<u64> = taken.iter().copied().collect();
        assert_eq!(given.len(), taken.len(), "round {round}: something was given twice");
        assert!(left.is_disjoint(&given), "round {round}: taken, and there again: {left:?}");
        // Whoever waits may have been given one when the node was killed.
        let lost = (1..=pushed).filter(|item| !left.contains(item) && !given.contains(item)).count();
        assert!(lost <= 3, "round {round}: {lost} of {pushed} are gone, {left:?} are left");
        suite.add(taken.len() as u64);
    }
}
