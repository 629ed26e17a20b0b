//! A reply that overtakes its write is a promise that a killed node has broken: with replies sent first, half of the
//! kills here lost a few writes.

use std::time::Duration;

use crate::harness::{Client, Cluster, Options, Pair, Suite, encode, until};

const KILLS: usize = 6;
const WRITERS: usize = 6;
/// Acknowledged by each writer before the kill, at least.
const WRITES_MIN: usize = 200;
/// Only the last ones can be missing.
const CHECKED: usize = 500;

#[test]
fn a_killed_node_has_sent_all_that_it_acknowledged() {
    let mut suite = Suite::new("pair acknowledged: kills");
    let mut pair = Pair::direct();
    for kill in 0..KILLS {
        pair.settle();
        let (started, starts) = std::sync::mpsc::channel();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, started) = (pair.client(0), started.clone());
                std::thread::spawn(move || {
                    write_until_killed(client, &format!("{kill}:{writer}"), || {
                        let _ = started.send(());
                    })
                })
            })
            .collect();
        for _ in 0..WRITERS {
            starts.recv().expect("every writer gets going");
        }
        pair.node_mut(0).kill();
        let mut survivor = pair.client(1);
        for (writer, thread) in writers.into_iter().enumerate() {
            let acknowledged = thread.join().expect("a writer");
            for n in acknowledged.saturating_sub(CHECKED)..acknowledged {
                // What the kernel holds may still be on its way in.
                let key = format!("{kill}:{writer}:{n}");
                until(&format!("{key} was acknowledged and arrives"), || {
                    survivor.run(&format!("EXISTS {key}")) == 1
                });
                suite.add(1);
            }
        }
        pair.launch(0);
    }
}

#[test]
fn a_killed_node_has_sent_the_pop_that_it_told_a_waiting_client() {
    let mut suite = Suite::new("pair acknowledged: waiting clients");
    let mut pair = Cluster::start(Options::new(2).args(&["--enable-debug-command", "yes"]));
    for kill in 0..KILLS {
        pair.settle();
        let (mut waiting, mut pusher) = (pair.client(0), pair.client(0));
        let taken = format!("taken{kill}");
        waiting.send(&["BLMOVE", "l", &taken, "LEFT", "LEFT", "0"]).unwrap();
        until("it waits", || pusher.info("clients", "blocked_clients").is_some_and(|count| count == "1"));
        // The pusher's thread sends what it has written when it answers, which is after the pause.
        let mut requests = Vec::new();
        encode(&["RPUSH", "l", "v"], &mut requests);
        encode(&["DEBUG", "SLEEP", "1"], &mut requests);
        pusher.send_raw(&requests).unwrap();
        assert_eq!(waiting.read(), "v");
        pair.node_mut(0).kill();
        let mut survivor = pair.client(1);
        until("what the waiting client was told arrives", || survivor.run(&format!("LLEN {taken}")) == 1);
        assert_eq!(survivor.run("EXISTS l"), 0);
        suite.add(1);
        pair.launch(0);
    }
}

/// Writes one key after the other. Returns how many were acknowledged.
fn write_until_killed(mut client: Client, prefix: &str, mut going: impl FnMut()) -> usize {
    client.set_timeout(Duration::from_secs(10));
    let mut acknowledged = 0;
    while client.try_cmd(&["SET", &format!("{prefix}:{acknowledged}"), "v"]).is_ok_and(|reply| reply == "OK")
    {
        acknowledged += 1;
        if acknowledged == WRITES_MIN {
            going();
        }
    }
    acknowledged
}
