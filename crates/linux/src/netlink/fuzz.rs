//! What the kernel answers, and who else may write to a netlink socket.

use netlink_packet_core::NetlinkPayload;

use super::{address, cause, kernel_words, link, read, route};

/// Reads a datagram as all of our readers do.
pub(crate) fn run(bytes: &[u8]) {
    let messages = read(bytes);
    assert!(messages.len() <= bytes.len() / 16);
    for message in messages {
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                let _ = link::parse(inner.clone());
                let _ = route::parse(inner.clone());
                if let Some(address) = address::parse(inner) {
                    assert!(address.net.prefix_len() <= address.net.max_prefix_len());
                }
            }
            NetlinkPayload::Error(error) => {
                let words = kernel_words(message.header.flags, &error.header);
                assert!(words.is_none_or(|words| words.len() <= 3 * bytes.len()));
                let _ = cause(&error);
            }
            _ => {}
        }
    }
}
