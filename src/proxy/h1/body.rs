//! Taking a message's body out of a buffer, as its framing says.

use bytes::BytesMut;

use super::chunked::{Chunked, Piece};
use crate::proxy::rules::Framing;

/// Takes a body out of a buffer.
#[derive(Debug)]
pub(in crate::proxy) enum Decoder {
    /// There is none.
    Empty,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Everything up to the connection's end.
    Close,
}

impl Decoder {
    /// The next piece; `None` if more bytes are needed.
    pub(in crate::proxy) fn next(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Piece>, &'static str> {
        match self {
            Self::Empty | Self::Length(0) => Ok(Some(Piece::End)),
            Self::Chunked(chunked) => chunked.next(buffer),
            Self::Length(_) | Self::Close if buffer.is_empty() => Ok(None),
            Self::Close => Ok(Some(Piece::Data(buffer.split().freeze()))),
            Self::Length(left) => {
                let take = usize::try_from(*left).map_or(buffer.len(), |l| l.min(buffer.len()));
                *left -= take as u64;
                Ok(Some(Piece::Data(buffer.split_to(take).freeze())))
            }
        }
    }

    /// Whether its last byte was taken.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        match self {
            Self::Empty | Self::Length(0) => true,
            Self::Chunked(chunked) => chunked.is_over(),
            Self::Length(_) | Self::Close => false,
        }
    }

    /// The same, if an end without trailers that is at the front of the buffer is taken too.
    pub(in crate::proxy) fn ends_here(&mut self, buffer: &mut BytesMut) -> bool {
        if let Self::Chunked(chunked) = self {
            chunked.end(buffer);
        }
        self.is_over()
    }
}

impl From<Framing> for Decoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Empty,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
        }
    }
}
