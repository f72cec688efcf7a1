"""What may be done over the management API, and the audit trail that every act is in first."""
