//! The device's UDP port: when it is bound, and its mark.

use bastide_linux::udp::{Offload, UdpError, UdpSocket};

/// When the UDP port is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// From start to end.
    Always,
    /// While the interface is up, as other WireGuards do.
    WhileUp,
}

/// The UDP port of a device.
#[derive(Debug)]
pub struct Sockets {
    bind: Bind,
    port: u16,
    mark: u32,
    offload: Offload,
    is_up: bool,
    bound: Option<UdpSocket>,
}

impl Sockets {
    /// Binds the port, if it is time.
    pub fn new(bind: Bind, port: u16, is_up: bool) -> Result<Self, UdpError> {
        let mut sockets = Self {
            bind,
            port,
            mark: 0,
            offload: Offload::Auto,
            is_up,
            bound: None,
        };
        sockets.bound = sockets.open(port)?;
        Ok(sockets)
    }

    /// Returns the port that is bound, or will be; 0 if the kernel is to choose.
    pub fn port(&self) -> u16 {
        self.bound.as_ref().map_or(self.port, UdpSocket::port)
    }

    /// Returns the mark of all packets; 0 is none.
    pub fn mark(&self) -> u32 {
        self.mark
    }

    /// Changes the port. If the new one cannot be bound, the old one stays.
    pub fn set_port(&mut self, port: u16) -> Result<(), UdpError> {
        if self
            .bound
            .as_ref()
            .is_some_and(|bound| port != 0 && bound.port() == port)
        {
            self.port = port;
            return Ok(());
        }
        let bound = self.open(port)?;
        self.port = port;
        self.bound = bound;
        Ok(())
    }

    /// Changes the mark.
    pub fn set_mark(&mut self, mark: u32) -> Result<(), UdpError> {
        if let Some(bound) = &self.bound {
            bound.set_mark(mark)?;
        }
        self.mark = mark;
        Ok(())
    }

    /// Uses trains of datagrams where the kernel does them well, or never.
    pub fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
        if let Some(bound) = &self.bound {
            bound.set_offload(offload);
        }
    }

    /// Takes note of the interface's state, binding or closing the port with it.
    pub(super) fn set_up(&mut self, is_up: bool) -> Result<(), UdpError> {
        self.is_up = is_up;
        match (self.wanted(), &self.bound) {
            (true, None) => self.bound = self.open(self.port)?,
            (false, Some(_)) => self.bound = None,
            (true, Some(_)) | (false, None) => {}
        }
        Ok(())
    }

    pub(super) fn bound(&self) -> Option<&UdpSocket> {
        self.bound.as_ref()
    }

    fn wanted(&self) -> bool {
        self.is_up || self.bind == Bind::Always
    }

    fn open(&self, port: u16) -> Result<Option<UdpSocket>, UdpError> {
        if !self.wanted() {
            return Ok(None);
        }
        let socket = UdpSocket::bind(port)?;
        if self.mark != 0 {
            socket.set_mark(self.mark)?;
        }
        if self.offload != Offload::Auto {
            socket.set_offload(self.offload);
        }
        Ok(Some(socket))
    }
}
