//! A file in memory whose copies share their pages: a copy costs a pointer for each page, a write copies one page.

use std::{io, ops::Range, sync::Arc};

/// What is shared or copied as a whole.
const PAGE: usize = 4096;

/// What a disk writes whole or not at all.
pub const SECTOR: usize = 512;

/// The content of a file.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// A page that was never written is a hole.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    len: u64,
}

impl Image {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cuts it, or makes it longer with zeros.
    pub fn set_len(&mut self, len: u64) {
        self.pages.resize(index(len).div_ceil(PAGE), None);
        let inside = index(len) % PAGE;
        if len < self.len
            && inside > 0
            && let Some(Some(last)) = self.pages.last_mut()
        {
            Arc::make_mut(last)[inside..].fill(0);
        }
        self.len = len;
    }

    /// Reads what is at `offset`.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) where that is past the end.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, inside, part) in parts(offset, out.len()) {
            let out = &mut out[part];
            match &self.pages[page] {
                Some(bytes) => out.copy_from_slice(&bytes[inside..inside + out.len()]),
                None => out.fill(0),
            }
        }
        Ok(())
    }

    /// Writes at `offset`; a file that is too short becomes longer.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if offset + data.len() as u64 > self.len {
            self.set_len(offset + data.len() as u64);
        }
        for (page, inside, part) in parts(offset, data.len()) {
            let data = &data[part];
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[inside..inside + data.len()].copy_from_slice(data);
        }
    }

    /// Writes as much as fits before the end.
    pub fn write_inside(&mut self, offset: u64, data: &[u8]) {
        let room = self.len.saturating_sub(offset);
        self.write(offset, &data[..index(room).min(data.len())]);
    }

    /// Whether all of a place was written before, so that a full disk has room for it.
    pub fn is_allocated(&self, offset: u64, len: usize) -> bool {
        parts(offset, len).all(|(page, ..)| self.pages.get(page).is_some_and(Option::is_some))
    }

    /// Where bytes that are not zero lie, in their order.
    pub fn used(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = |(page, bytes): (usize, &Arc<[u8; PAGE]>)| {
            let bytes = Arc::clone(bytes);
            (0..PAGE).filter(move |&inside| bytes[inside] != 0).map(move |inside| (page * PAGE + inside) as u64)
        };
        self.pages.iter().enumerate().filter_map(|(page, bytes)| Some((page, bytes.as_ref()?))).flat_map(bytes)
    }

    /// Turns one bit round.
    pub fn flip(&mut self, offset: u64, bit: u8) {
        let at = index(offset);
        if let Some(page) = self.pages.get_mut(at / PAGE) {
            Arc::make_mut(page.get_or_insert_with(|| Arc::new([0; PAGE])))[at % PAGE] ^= 1 << (bit % 8);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a file in memory is smaller than memory")]
fn index(offset: u64) -> usize {
    offset as usize
}

/// The pages that a place covers: each with where the place begins in it, and the part of the place that is in it.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    pieces(offset, len, PAGE).map(move |part| {
        let at = index(offset) + part.start;
        (at / PAGE, at % PAGE, part)
    })
}

/// A place of `len` bytes, cut wherever a multiple of `unit` lies.
pub(crate) fn pieces(offset: u64, len: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    let start = index(offset);
    let mut done = 0;
    std::iter::from_fn(move || {
        let from = done;
        done = ((start + from) / unit * unit + unit - start).min(len);
        (from < len).then_some(from..done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &Image) -> Vec<u8> {
        let mut out = vec![7; index(image.len())];
        image.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn it_reads_as_a_plain_vector_does_after_any_writes() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut image, mut plain) = (Image::default(), Vec::new());
        for _ in 0..400 {
            if rng.u8(..) < 40 {
                let len = rng.usize(..20_000);
                image.set_len(len as u64);
                plain.resize(len, 0);
            }
            let (offset, data) = (rng.usize(..15_000), vec![rng.u8(..); rng.usize(1..9000)]);
            plain.resize(plain.len().max(offset + data.len()), 0);
            plain[offset..offset + data.len()].copy_from_slice(&data);
            image.write(offset as u64, &data);
            assert_eq!(read(&image), plain);
        }
        assert!(image.read(image.len() - 1, &mut [0; 2]).is_err());
    }

    #[test]
    fn a_copy_does_not_see_what_is_written_after() {
        let mut image = Image::default();
        image.write(5000, b"before");
        let copy = image.clone();
        image.write(5000, b"after!");
        assert_eq!(&read(&copy)[5000..], b"before");
        assert_eq!(copy.used().count(), 6);
        assert!(copy.is_allocated(4096, 100) && !copy.is_allocated(4000, 100));
    }

    #[test]
    fn pieces_cut_at_sectors_and_cover_all() {
        let cut: Vec<_> = pieces(500, 1100, SECTOR).collect();
        assert_eq!(cut, [0..12, 12..524, 524..1036, 1036..1100]);
        assert_eq!(pieces(512, 0, SECTOR).count(), 0);
    }
}
