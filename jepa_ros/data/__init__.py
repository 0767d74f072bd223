# SPDX-License-Identifier: Apache-2.0
"""Recordings in, clips out: bags and videos as camera frames, cached sequences, clips for training."""
