"""How traffic reaches us: eBPF programs, their maps, listeners in pods."""
