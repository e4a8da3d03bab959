//! Raw frames on every interface of a namespace, through one packet socket, so that their order is known.

use std::fs::File;
use std::io::{self, Error};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// Sends on and hears all interfaces of one namespace.
#[derive(Debug)]
pub struct Wire(OwnedFd);

/// `struct virtio_net_hdr`, in front of every frame: says whether the kernel left a checksum to the hardware.
const VNET_HEADER: usize = 10;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const NEEDS_CHECKSUM: u8 = 1;

impl Wire {
    /// A socket in the namespace of this name (as `ip netns` knows it).
    ///
    /// # Errors
    /// When the kernel refuses, as it does without root.
    pub fn open(namespace: &str) -> io::Result<Self> {
        let file = File::open(format!("/run/netns/{namespace}"))?;
        // A thread of its own moves there; the socket stays when the thread ends.
        let opened = thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Self::here()
        });
        opened.join().map_err(|_| Error::other("thread"))?
    }

    fn here() -> io::Result<Self> {
        let all = i32::from((libc::ETH_P_ALL as u16).to_be());
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        option(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1_i32)?;
        option(&fd, libc::SOL_PACKET, PACKET_VNET_HDR, &1_i32)?;
        option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(8_i32 << 20))?;
        let patience = libc::timeval {
            tv_sec: 5,
            tv_usec: 0,
        };
        option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience)?;
        Ok(Self(fd))
    }

    /// Sends one frame out of an interface.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros are a valid sockaddr_ll.
        let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = interface as i32;
        to.sll_halen = 6;
        to.sll_addr[..6].copy_from_slice(&frame[..6]);
        let bytes = [&[0; VNET_HEADER], frame].concat();
        // SAFETY: both pointers are valid for the lengths given with them.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as u32,
            )
        };
        if sent < 0 {
            return Err(Error::last_os_error());
        }
        Ok(())
    }

    /// The next frame that arrived, and the index of its interface. Waits for at most five seconds.
    ///
    /// # Errors
    /// When nothing came.
    pub fn receive(&self) -> io::Result<(u32, Vec<u8>)> {
        let mut bytes = vec![0; 1 << 16];
        // SAFETY: all zeros are a valid sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut from_len = size_of_val(&from) as u32;
        // SAFETY: all pointers are valid for the lengths given with them.
        let len = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_len,
            )
        };
        let len = usize::try_from(len).map_err(|_| Error::last_os_error())?;
        bytes.truncate(len);
        let mut frame = bytes.split_off(VNET_HEADER.min(len));
        if bytes.first() == Some(&NEEDS_CHECKSUM) {
            let word = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
            let (start, place) = (word(6), word(6) + word(8));
            // The field holds the sum of the pseudo-header.
            let sum = forge::checksum(&[&frame[start..]]);
            frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Ok((from.sll_ifindex as u32, frame))
    }
}

fn option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is valid for its own size.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if done < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}
