"""
The scenario `policy`: a shop that is open to all is closed, and nothing breaks.

First audit, which lets all in and says who it would not; then the policies that
`podlock authz suggest` writes from what was seen; `podlock authz diff` says whom they
would refuse; then they are in force, and refuse him.
"""
