"""Vasconcelos, He, Teh: uncertainty of implicit neural representations for tomography."""
