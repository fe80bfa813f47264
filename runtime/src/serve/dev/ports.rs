//! The ports of `dtask dev`: as asked, or the next free ones when nobody asked.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::DevAddress;
use crate::serve::config::ServeError;

/// Ports tried beyond the wish: a machine with so many taken has another trouble.
const TRIES: u16 = 100;

/// Binds `count` ports, each after the one before.
pub(super) fn bind(
    option: &'static str,
    wish: &DevAddress,
    count: u32,
) -> Result<Vec<TcpListener>, ServeError> {
    let mut address = first(option, &wish.address)?;
    let mut sockets = Vec::new();
    let mut tries = 0;
    while sockets.len() < count as usize {
        match TcpListener::bind(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if wish.movable && error.kind() == ErrorKind::AddrInUse && tries < TRIES => {
                tries += 1;
            }
            Err(source) => {
                return Err(ServeError::Port { option, address: address.to_string(), source });
            }
        }
        if address.port() != 0 {
            address.set_port(address.port().wrapping_add(1).max(1));
        }
    }
    Ok(sockets)
}

fn first(option: &'static str, address: &str) -> Result<SocketAddr, ServeError> {
    let found = address.to_socket_addrs().map(|mut found| found.next());
    found.ok().flatten().ok_or_else(|| ServeError::Option {
        option,
        detail: format!("{address} is not an address; write HOST:PORT"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_default_moves_on_and_a_wish_does_not() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        let mut wish = DevAddress { address, movable: true };
        let sockets = bind("--grpc", &wish, 1).expect("some port is free");
        assert_ne!(sockets[0].local_addr().ok(), taken.local_addr().ok());
        wish.movable = false;
        let error = bind("--grpc", &wish, 1).expect_err("it is taken").to_string();
        assert!(error.contains(&wish.address), "{error}");
    }
}
