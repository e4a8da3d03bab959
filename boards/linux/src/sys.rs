//! System calls that have no safe wrapper, each with a safe face.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of `struct virtio_net_hdr`, which precedes frames on sockets with `PACKET_VNET_HDR`.
pub const VNET_HEADER: usize = 10;

/// What the kernel tells about one received frame beside its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes of the frame in its slot, header not counted.
    pub len: usize,
    /// The frame was longer than its slot.
    pub cut: bool,
    /// We sent it ourselves.
    pub outgoing: bool,
    /// The VLAN tag that the kernel took out: TPID and TCI.
    pub tag: Option<(u16, u16)>,
}

/// A raw packet socket on one interface: all protocols, promiscuous, our own frames not echoed.
pub fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the new descriptor is owned by nobody else.
    let fd = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0))?)
    };
    let index = interface_index(interface)?;
    for option in [
        libc::PACKET_AUXDATA,
        PACKET_VNET_HDR,
        PACKET_IGNORE_OUTGOING,
    ] {
        set_option(&fd, libc::SOL_PACKET, option, &1i32)?;
    }
    let promiscuous = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(
        &fd,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &promiscuous,
    )?;
    // Bursts wait here while another process has the CPU. Without CAP_NET_ADMIN the smaller limit holds.
    set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)
        .or_else(|_| set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER))?;
    // SAFETY: all fields of a sockaddr_ll may be zero.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    // SAFETY: pointer and length describe `address`, which lives during the call.
    checked(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    })?;
    Ok(fd)
}

/// Receives up to `received.len()` frames without waiting: their virtio headers into `headers`, their
/// bytes into the slots (from offset `skip` on) of `slot` bytes that `storage` consists of.
pub fn receive_batch(
    fd: BorrowedFd<'_>,
    headers: &mut [[u8; VNET_HEADER]],
    storage: &mut [u8],
    slot: usize,
    skip: usize,
    received: &mut [Received],
) -> io::Result<usize> {
    let count = received
        .len()
        .min(headers.len())
        .min(storage.len() / slot)
        .min(MAX_BATCH);
    let mut controls = [[0u64; CONTROL / 8]; MAX_BATCH];
    // SAFETY: all-zero bytes are valid values of these plain C structures.
    let (mut messages, mut iovecs, mut addresses): (
        [libc::mmsghdr; MAX_BATCH],
        [[libc::iovec; 2]; MAX_BATCH],
        [libc::sockaddr_ll; MAX_BATCH],
    ) = unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
    for (i, (chunk, header)) in storage
        .chunks_exact_mut(slot)
        .zip(headers)
        .take(count)
        .enumerate()
    {
        let bytes = &mut chunk[skip..];
        iovecs[i][0] = libc::iovec {
            iov_base: header.as_mut_ptr().cast(),
            iov_len: VNET_HEADER,
        };
        iovecs[i][1] = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let message = &mut messages[i].msg_hdr;
        message.msg_iov = iovecs[i].as_mut_ptr();
        message.msg_iovlen = 2;
        message.msg_control = controls[i].as_mut_ptr().cast();
        message.msg_controllen = CONTROL as _;
        message.msg_name = (&raw mut addresses[i]).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    }
    // SAFETY: every pointer set above leads into `headers`, `storage`, or a local array, each with the
    // length given beside it, and all of them outlive the call.
    let got = checked(unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            count as u32,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    })? as usize;
    for i in 0..got {
        received[i] = Received {
            len: (messages[i].msg_len as usize).saturating_sub(VNET_HEADER),
            cut: messages[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            outgoing: addresses[i].sll_pkttype == PACKET_OUTGOING,
            tag: tag_of(&messages[i].msg_hdr),
        };
    }
    Ok(got)
}

/// The tag in the auxiliary data of a message that `recvmmsg` has filled in.
fn tag_of(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel wrote well-formed control messages into the buffer of this header, and the
    // CMSG macros stay inside of it; the payload is read unaligned, after its length was checked.
    let auxdata = unsafe {
        let control = libc::CMSG_FIRSTHDR(message).as_ref()?;
        let needed = libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize;
        if control.cmsg_level != libc::SOL_PACKET
            || control.cmsg_type != libc::PACKET_AUXDATA
            || (control.cmsg_len as usize) < needed
        {
            return None;
        }
        libc::CMSG_DATA(control)
            .cast::<libc::tpacket_auxdata>()
            .read_unaligned()
    };
    let valid = auxdata.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    let tpid = match auxdata.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => 0x8100,
        _ => auxdata.tp_vlan_tpid,
    };
    valid.then_some((tpid, auxdata.tp_vlan_tci))
}

/// Sends one frame after an empty virtio header.
pub fn send_packet(fd: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    let header = [0u8; VNET_HEADER];
    let parts = [io::IoSlice::new(&header), io::IoSlice::new(frame)];
    // SAFETY: IoSlice has the layout of iovec (guaranteed by std); both slices outlive the call.
    let sent = unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr().cast(), 2) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Opens the TAP device `name`, made if it is not there, and sets it up.
pub fn tap_device(name: &str) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives during the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    let socket = control_socket()?;
    let flags = interface_flags(&socket, name)?;
    request.ifr_ifru.ifru_flags = (flags | libc::IFF_UP) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives during the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(file.into())
}

/// A socket of the current network namespace that interface requests can be made on.
pub fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the new descriptor is owned by nobody else.
    unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        Ok(OwnedFd::from_raw_fd(checked(libc::socket(
            libc::AF_INET,
            kind,
            0,
        ))?))
    }
}

/// Whether the interface is up and has a carrier.
pub fn has_carrier(socket: &OwnedFd, interface: &str) -> bool {
    let needed = libc::IFF_UP | libc::IFF_RUNNING;
    interface_flags(socket, interface).is_ok_and(|flags| flags & needed == needed)
}

/// Whether the interface is there and set up (administratively).
pub fn is_set_up(socket: &OwnedFd, interface: &str) -> io::Result<bool> {
    Ok(interface_flags(socket, interface)? & libc::IFF_UP != 0)
}

/// The first interface of this network namespace that has one of `addresses`.
pub fn first_address_among(addresses: &[Ipv4Addr]) -> Option<(String, Ipv4Addr)> {
    // A list that cannot be read is no reason not to start: the check is a courtesy.
    let mut interfaces = nix::ifaddrs::getifaddrs().ok()?;
    interfaces.find_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        addresses
            .contains(&address)
            .then_some((interface.interface_name, address))
    })
}

/// Locks all memory, now and later, and puts this thread and those it starts under SCHED_FIFO.
pub fn realtime() -> io::Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    // On fault: most of the memory for flows is never touched.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)?;
    let parameter = libc::sched_param { sched_priority: 50 };
    // SAFETY: the parameter lives during the call; 0 is this thread.
    checked(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) })?;
    Ok(())
}

fn interface_index(name: &str) -> io::Result<i32> {
    Ok(nix::net::if_::if_nametoindex(name)? as i32)
}

fn interface_flags(socket: &OwnedFd, interface: &str) -> io::Result<c_int> {
    let mut request = request(interface);
    // SAFETY: SIOCGIFFLAGS reads and writes one ifreq, which lives during the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) })?;
    // SAFETY: a successful SIOCGIFFLAGS filled in this member of the union.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }) & 0xffff)
}

fn request(interface: &str) -> libc::ifreq {
    // SAFETY: all fields of an ifreq may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero; names were checked to be shorter.
    let room = libc::IFNAMSIZ - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn set_option<T>(fd: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let value: *const c_void = std::ptr::from_ref(value).cast();
    // SAFETY: pointer and length describe one `T`, which lives during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            value,
            size_of::<T>() as libc::socklen_t,
        )
    };
    checked(result).map(drop)
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Most frames of one `receive_batch`.
pub const MAX_BATCH: usize = 32;

/// Room for one `tpacket_auxdata` control message, a multiple of 8.
const CONTROL: usize = 64;

const RECEIVE_BUFFER: c_int = 4 << 20;

// linux/if_packet.h
const PACKET_VNET_HDR: c_int = 15;
const PACKET_IGNORE_OUTGOING: c_int = 23;
const PACKET_OUTGOING: u8 = 4;
