//! What a peer sends: an envelope that is taken is the same after a second crossing.

use dtask_core::codec::peer::{decode_envelope, encode_envelope};
use dtask_proto::v1;
use prost::Message as _;

use crate::meter;

/// An empty raft message takes two bytes on the wire and some two hundred here, three times over:
/// in the list as it grows, as the wire's type and as ours.
const FACTOR: usize = 800;

/// Reads the bytes as a peer's message.
pub(crate) fn run(data: &[u8]) {
    meter::bounded(data.len(), FACTOR, || {
        let Ok(message) = v1::PeerEnvelope::decode(data) else { return };
        let Ok(envelope) = decode_envelope(message) else { return };
        let bytes = encode_envelope(envelope.clone()).encode_to_vec();
        let message = v1::PeerEnvelope::decode(bytes.as_slice()).expect("it was just encoded");
        assert_eq!(decode_envelope(message), Ok(envelope));
    });
}
