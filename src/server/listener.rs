//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection;
use crate::engine::Engine;

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
            Ok((stream, _)) => {
                prepare(&stream);
                tokio::spawn(connection::serve(engine.clone(), stream, thread));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Both only tune; a socket that refuses them works.
    let _ = stream.set_nodelay(true);
}
