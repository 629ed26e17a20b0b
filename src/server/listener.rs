//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use crate::engine::Engine;
use crate::engine::allowlist::{Admission, PROTECTED};
use crate::engine::stats::Stats;

/// Opens a socket that shares its port with the other threads' listeners.
///
/// # Errors
/// If the address cannot be bound.
pub fn bind(address: SocketAddr, backlog: u32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog.min(i32::MAX as u32) as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Accepts connections for ever.
pub async fn accept(engine: Arc<Engine>, listener: TcpListener, thread: usize) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&engine, stream, peer, thread),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves the connection, or closes it before a byte is read where its address may not come in.
fn admit(engine: &Arc<Engine>, mut stream: TcpStream, peer: SocketAddr, thread: usize) {
    match engine.admission(Some(peer.ip())) {
        Admission::Full | Admission::LinkOnly => {
            prepare(&stream);
            tokio::spawn(connection::serve(engine.clone(), stream, thread));
        }
        Admission::Protected => {
            Stats::add(&engine.stats(thread).rejected_connections, 1);
            // It is closed whether or not it hears why.
            tokio::spawn(async move { stream.write_all(PROTECTED.as_bytes()).await });
        }
        Admission::Refused => Stats::add(&engine.stats(thread).rejected_connections, 1),
    }
}

fn prepare(stream: &TcpStream) {
    // Both only tune; a socket that refuses them works.
    let _ = stream.set_nodelay(true);
}
