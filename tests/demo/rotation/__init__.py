"""
The scenario `rotation`: every authority goes, under traffic that notices everything.

Four pods on two nodes, each with clients of its own: 200 requests a second on new
connections, and 20 streams that stay and check each byte. Issuers are rotated, an
anchor is added, promoted and the old one retired, an issuer is tainted.
"""
