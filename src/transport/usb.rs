//! USB devices over usbfs.
