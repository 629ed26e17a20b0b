//! A reply that overtakes its write is a promise that a killed node has broken: with replies sent first, half of the
//! kills here lost a few writes.

use std::time::Duration;

use crate::harness::{Client, Pair, Suite, until};

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
